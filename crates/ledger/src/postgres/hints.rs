//! What processes that share a database say to each other: that something was written which another has to look at.
//!
//! Never carries anything that is not in the tables, and never counts on being heard: who has missed a word finds by its own
//! timer what it was about. It leaves with the transaction that it is about, or not at all.

use protocol::ids::TenantId;
use tokio::sync::broadcast;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::fault::Done;
use super::session::Session;
use crate::workers::{Hint, Hints};

/// Words that may wait to be looked at. What is pushed out is found by a timer.
const WAITING: usize = 1024;

/// Where a handle hears what other handles say.
#[derive(Debug, Clone)]
pub(super) struct Ear {
    /// What this handle says is nothing new to it.
    me: Uuid,
    heard: broadcast::Sender<Hint>,
}

impl Ear {
    pub(super) fn new() -> Self {
        Self { me: Uuid::new_v4(), heard: broadcast::Sender::new(WAITING) }
    }

    /// From now on.
    pub(super) fn hints(&self) -> Hints {
        Hints::of(self.heard.subscribe())
    }

    pub(super) fn me(&self) -> Uuid {
        self.me
    }

    /// Takes one notification.
    pub(super) fn hear(&mut self, payload: &str) {
        if let Some((from, hint)) = parse(payload)
            && from != self.me
        {
            // Nobody may be listening.
            let _ = self.heard.send(hint);
        }
    }
}

/// Tells the others, when this transaction has happened.
pub(super) async fn tell(session: &Session<'_>, from: Uuid, hint: Hint) -> Done<()> {
    let text = "SELECT pg_notify('tenantry_' || hashtext(current_schema()), $1)";
    session.one(text, &[&payload(from, hint)]).await?;
    Ok(())
}

/// Makes this session hear them.
pub(super) async fn listen(client: &Client) -> Result<(), Error> {
    let channel = client.query_one("SELECT quote_ident('tenantry_' || hashtext(current_schema()))", &[]).await?;
    let channel: String = channel.try_get(0)?;
    client.batch_execute(&format!("LISTEN {channel}")).await
}

fn payload(from: Uuid, hint: Hint) -> String {
    match hint {
        Hint::Listed { tenant, new } => format!("{from} listed {tenant} {new}"),
        Hint::Changed { tenant } => format!("{from} changed {tenant}"),
        Hint::Consented { tenant } => format!("{from} consented {tenant}"),
        Hint::Free => format!("{from} free"),
    }
}

/// Reads [`payload`] back; what a newer program says is passed over.
fn parse(payload: &str) -> Option<(Uuid, Hint)> {
    let mut words = payload.split(' ');
    let from = words.next()?.parse().ok()?;
    let verb = words.next()?;
    let tenant = words.next().and_then(|word| word.parse::<TenantId>().ok());
    let hint = match verb {
        "listed" => Hint::Listed { tenant: tenant?, new: words.next()?.parse().ok()? },
        "changed" => Hint::Changed { tenant: tenant? },
        "consented" => Hint::Consented { tenant: tenant? },
        "free" => Hint::Free,
        _ => return None,
    };
    Some((from, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard_by_others_and_not_by_who_says_it() {
        let tenant = "6a1c4f0e-7c39-4f0b-9d6e-2f4f0e0c8a11".parse().unwrap();
        let (mut ear, other) = (Ear::new(), Ear::new());
        let mut hints = ear.hints();
        for hint in [Hint::Listed { tenant, new: 3 }, Hint::Changed { tenant }, Hint::Consented { tenant }, Hint::Free]
        {
            ear.hear(&payload(ear.me(), hint));
            ear.hear(&payload(other.me(), hint));
            assert_eq!(hints.next().await, hint);
        }
        for nonsense in ["", "x free", &format!("{} listed", other.me()), &format!("{} sings {tenant}", other.me())] {
            ear.hear(nonsense);
        }
        ear.hear(&payload(other.me(), Hint::Free));
        assert_eq!(hints.next().await, Hint::Free, "nothing else came before it");
    }
}
