//! One of several processes that share a ledger's tenants: says that it is alive, takes its share, gives back what is too
//! much, hears what others say, and stops trusting what it holds when the ledger has not confirmed it in time.
//!
//! Never works on a tenant: it tells the supervisor which are ours. Never waits for the ledger longer than a turn.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use engine::lease::{Fleet, Lease, WorkerId, renew_every, trusted_for};
use ledger::{Hint, Hints, Ledger, LedgerError, Workers};
use protocol::ids::TenantId;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::Waker;
use super::reception::Reception;

/// Leases taken in one turn. Smaller: a fleet that starts takes longer. Larger: one transaction locks that many tenants.
const TAKEN_AT_ONCE: u32 = 1000;
/// Words that may wait to be heard.
const WORDS: usize = 16;
/// Between two turns that hints have called for. Smaller: many changes at once are as many turns. Larger: what was given back
/// waits for longer.
const BETWEEN_TURNS: Duration = Duration::from_millis(250);
/// Turns after which all that is held is asked for, whatever is believed.
const TURNS_UNASKED: u32 = 30;

/// How a process comes by its tenants.
#[derive(Clone)]
pub struct Sharing {
    /// The ledger that says who holds what.
    pub workers: Arc<dyn Workers>,
    /// This process, drawn at random when it began.
    pub worker: WorkerId,
    /// As people call it.
    pub name: String,
    /// For how long its word counts.
    pub lease_time: Duration,
    /// There is no other, of which it has proof: it takes all there is at once.
    pub alone: bool,
}

/// What the keeper tells the supervisor.
#[derive(Debug)]
pub(super) enum Word {
    /// How things stand, by the ledger's word.
    Standing(Standing),
    /// Who is there has changed.
    Look,
}

/// What is ours.
#[derive(Debug)]
pub(super) struct Standing {
    /// All that we hold.
    pub(super) held: Vec<Lease>,
    /// So many of those that were let go, from the first on, are not among them any more.
    pub(super) returned: u64,
    /// Until when that may be acted on.
    pub(super) trusted_until: Instant,
    /// So many are too much.
    pub(super) give_back: u64,
    /// Nobody else has any, and nothing is left to take.
    pub(super) is_everything: bool,
}

/// Talks to the ledger.
pub(super) struct Keeper {
    sharing: Sharing,
    waker: Waker,
    reception: Reception,
    words: mpsc::Sender<Word>,
    returned: mpsc::UnboundedReceiver<Lease>,
    known: BTreeSet<Lease>,
    /// Let go by the supervisor, and perhaps not given back yet: nothing of ours is begun under them again. What was under way
    /// when they were let go may still reach the ledger, which is to refuse it from then on.
    owed: BTreeSet<Lease>,
    /// Leases the supervisor has let go and we have seen to.
    returned_count: u64,
    /// Turns since all that is held was asked for; `None` when a call may have done what its answer did not tell.
    since_asked: Option<u32>,
    /// Somebody here has added what can be taken.
    called: Arc<Notify>,
}

/// The supervisor's end.
pub(super) struct Holder {
    pub(super) words: mpsc::Receiver<Word>,
    returned: mpsc::UnboundedSender<Lease>,
    /// Let go, and perhaps still among what is said to be held, by a turn that was under way.
    returning: VecDeque<Lease>,
    /// How many were let go before those.
    returned_count: u64,
    /// Until when what is held may be acted on; `None` when nothing is.
    pub(super) trusted_until: Option<Instant>,
    /// Told to stop, and given back when it has.
    pub(super) leaving: BTreeSet<TenantId>,
    /// Everything is ours: what is done, is done for all.
    pub(super) is_everything: bool,
    called: Arc<Notify>,
}

/// What may happen between two turns.
enum Event {
    Returned(Lease),
    Hint(Hint),
    Called,
}

/// The two ends.
pub(super) fn pair(sharing: Sharing, waker: Waker, reception: Reception) -> (Keeper, Holder) {
    let (words, heard) = mpsc::channel(WORDS);
    let (sender, returned) = mpsc::unbounded_channel();
    let called = Arc::new(Notify::new());
    let holder = Holder {
        words: heard,
        returned: sender,
        returning: VecDeque::new(),
        returned_count: 0,
        trusted_until: None,
        leaving: BTreeSet::new(),
        is_everything: false,
        called: Arc::clone(&called),
    };
    let known = BTreeSet::new();
    let owed = BTreeSet::new();
    let keeper = Keeper {
        sharing,
        waker,
        reception,
        words,
        returned,
        known,
        owed,
        returned_count: 0,
        since_asked: None,
        called,
    };
    (keeper, holder)
}

impl Keeper {
    /// Turn after turn, for ever.
    pub(super) async fn run(mut self) -> Infallible {
        let every = renew_every(self.sharing.lease_time);
        let mut hints = self.sharing.workers.hints();
        if self.sharing.alone {
            self.bury_others(every).await;
        }
        loop {
            let begun = Instant::now();
            // A call that is not waited for any longer may still happen: the next turn asks what came of it.
            match timeout(every, self.turn(begun)).await {
                Ok(Ok(standing)) => {
                    // When nobody listens, the run is ending.
                    let _ = self.words.send(Word::Standing(standing)).await;
                }
                Ok(Err(error)) => {
                    self.since_asked = None;
                    tracing::warn!(error = crate::chain(&error), "the ledger does not hear that we are alive");
                }
                Err(_) => {
                    self.since_asked = None;
                    tracing::warn!("the ledger does not answer whether it has heard that we are alive");
                }
            }
            self.wait(begun, every, &mut hints).await;
        }
    }

    /// Who is not there any more need not be waited for. Without this it is, for its lease time.
    async fn bury_others(&mut self, patience: Duration) {
        match timeout(patience, self.sharing.workers.bury_others(self.sharing.worker)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = crate::chain(&error), "tenants of others have to run out"),
            Err(_) => tracing::debug!("tenants of others have to run out"),
        }
    }

    /// Gives back what was let go. To say so twice does nothing: each lease is named with its epoch.
    async fn settle(&mut self) -> Result<(), LedgerError> {
        while let Ok(lease) = self.returned.try_recv() {
            self.owe(lease);
        }
        if !self.owed.is_empty() {
            self.sharing.workers.give_back(self.owed.iter().copied().collect()).await?;
            self.owed.clear();
        }
        Ok(())
    }

    fn owe(&mut self, lease: Lease) {
        self.returned_count += 1;
        self.known.remove(&lease);
        self.owed.insert(lease);
    }

    async fn turn(&mut self, begun: Instant) -> Result<Standing, LedgerError> {
        self.settle().await?;
        let Sharing { workers, worker, name, lease_time, alone } = &self.sharing;
        let fleet = workers.alive(*worker, name.clone(), *lease_time).await?;
        let mut turn = fleet.turn(*worker);
        if *alone {
            (turn.take, turn.give_back) = (fleet.free, 0);
        }
        let held = held_by(&fleet, *worker);
        let is_sure = self.since_asked.is_some_and(|turns| turns < TURNS_UNASKED);
        if !is_sure || held != self.known.len() as u64 {
            // Robbed while we were silent, or given what we did not hear of.
            self.known = workers.held(*worker).await?.into_iter().collect();
            self.since_asked = Some(0);
        }
        self.since_asked = self.since_asked.map(|turns| turns + 1);
        let mut taken = 0;
        while taken < turn.take && !self.words.is_closed() {
            let limit = u32::try_from(turn.take - taken).unwrap_or(u32::MAX).min(TAKEN_AT_ONCE);
            let leases = workers.take(*worker, limit).await?;
            if leases.is_empty() {
                break;
            }
            taken += leases.len() as u64;
            self.known.extend(leases);
        }
        let others = fleet.workers.iter().filter(|peer| peer.worker != *worker).map(|peer| peer.held).sum::<u64>();
        Ok(Standing {
            held: self.known.iter().copied().collect(),
            returned: self.returned_count,
            trusted_until: begun + trusted_for(*lease_time),
            give_back: turn.give_back,
            is_everything: others == 0 && fleet.free == taken,
        })
    }

    /// Until the next turn: gives back what the supervisor has let go, and passes on what others say.
    async fn wait(&mut self, begun: Instant, every: Duration, hints: &mut Hints) {
        let mut until = begun + every;
        loop {
            let event = tokio::select! {
                biased;
                () = sleep_until(until) => return,
                Some(lease) = self.returned.recv() => Event::Returned(lease),
                hint = hints.next() => Event::Hint(hint),
                () = self.called.notified() => Event::Called,
            };
            let calls = match event {
                Event::Returned(lease) => {
                    self.give_back(lease, begun + every).await;
                    false
                }
                Event::Hint(hint) => self.heard(hint),
                Event::Called => true,
            };
            if calls {
                until = until.min(Instant::now().max(begun + BETWEEN_TURNS));
            }
        }
    }

    /// Says whether it calls for a turn.
    fn heard(&self, hint: Hint) -> bool {
        match hint {
            Hint::Listed { tenant, new } => {
                // Whoever else holds it hears it too.
                if self.known.iter().any(|lease| lease.tenant == tenant) {
                    self.waker.listed(tenant, new);
                }
                return false;
            }
            Hint::Consented { tenant } => self.reception.welcome(tenant),
            Hint::Changed { tenant } => tracing::debug!(%tenant, "another process has changed a tenant"),
            Hint::Free => return true,
        }
        // What waits there is looked at in time; more of the same is nothing new.
        let _ = self.words.try_send(Word::Look);
        true
    }

    async fn give_back(&mut self, lease: Lease, until: Instant) {
        self.owe(lease);
        match tokio::time::timeout_at(until, self.settle()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = crate::chain(&error), "tenants could not be given back yet"),
            Err(_) => self.since_asked = None,
        }
    }
}

fn held_by(fleet: &Fleet, worker: WorkerId) -> u64 {
    fleet.workers.iter().find(|peer| peer.worker == worker).map_or(0, |peer| peer.held)
}

impl Holder {
    /// What is ours by this word, but for what was let go while it was on its way.
    pub(super) fn held(&mut self, word: &Standing) -> Vec<Lease> {
        while self.returned_count < word.returned && self.returning.pop_front().is_some() {
            self.returned_count += 1;
        }
        word.held.iter().filter(|lease| !self.returning.contains(lease)).copied().collect()
    }

    /// So many are being given back already.
    pub(super) fn on_the_way(&self) -> u64 {
        (self.leaving.len() + self.returning.len()) as u64
    }

    /// There may be something to take.
    pub(super) fn call(&self) {
        self.called.notify_one();
    }

    /// This lease is worked on no more.
    pub(super) fn let_go(&mut self, lease: Lease) {
        self.leaving.remove(&lease.tenant);
        self.returning.push_back(lease);
        // When nobody listens, the run is ending, and everything is given back together.
        let _ = self.returned.send(lease);
    }
}

impl Sharing {
    /// For a process of that name that shares tenants with others from now on.
    pub fn new(workers: Arc<dyn Workers>, name: String, lease_time: Duration) -> Self {
        let mut worker = [0; 16];
        rand::fill(&mut worker).expect("the system's random numbers never run out");
        Self { workers, worker: WorkerId(worker), name, lease_time, alone: false }
    }

    /// The run is over and nothing is under way any more: others may have everything at once.
    pub(super) async fn leave(&self) {
        match timeout(self.lease_time, self.workers.leave(self.worker)).await {
            Ok(Ok(tenants)) => tracing::info!(tenants, "given back"),
            Ok(Err(error)) => {
                let error = crate::chain(&error);
                tracing::warn!(error, "tenants could not be given back; others take them after the lease time");
            }
            Err(_) => tracing::warn!("tenants could not be given back; others take them after the lease time"),
        }
    }
}

/// All tenants, held for a command that needs them for itself and is soon done.
pub struct Held {
    sharing: Sharing,
    leases: Vec<Lease>,
}

impl Held {
    /// Takes them; [`Sharing::alone`] is taken for granted.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn take(sharing: Sharing) -> Result<Self, LedgerError> {
        let Sharing { workers, worker, name, lease_time, .. } = &sharing;
        workers.alive(*worker, name.clone(), *lease_time).await?;
        workers.bury_others(*worker).await?;
        while !workers.take(*worker, TAKEN_AT_ONCE).await?.is_empty() {}
        let leases = workers.held(*worker).await?;
        Ok(Self { sharing, leases })
    }

    /// Ledger and archive for who works on this tenant; `None` for one that was not there.
    pub fn tenant(&self, tenant: TenantId, archive: &archive::Archive) -> Option<(Arc<dyn Ledger>, archive::Archive)> {
        let lease = self.leases.iter().find(|lease| lease.tenant == tenant)?;
        Some((self.sharing.workers.under(*lease), archive.under(lease.epoch.0)))
    }

    /// Gives them back.
    pub async fn leave(self) {
        self.sharing.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use engine::lease::Epoch;

    use super::*;

    #[test]
    fn what_was_let_go_is_not_begun_with_again_by_a_word_that_was_on_its_way() {
        let lease = |number: u8| {
            let tenant = format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().unwrap();
            Lease { tenant, worker: WorkerId([1; 16]), epoch: Epoch(1) }
        };
        let (words, heard) = mpsc::channel(WORDS);
        let (sender, mut returned) = mpsc::unbounded_channel();
        let mut holder = Holder {
            words: heard,
            returned: sender,
            returning: VecDeque::new(),
            returned_count: 0,
            trusted_until: None,
            leaving: BTreeSet::from([lease(1).tenant]),
            is_everything: false,
            called: Arc::default(),
        };
        let word = |returned| Standing {
            held: vec![lease(1), lease(2), lease(3)],
            returned,
            trusted_until: Instant::now(),
            give_back: 0,
            is_everything: false,
        };
        holder.let_go(lease(1));
        holder.let_go(lease(2));
        assert_eq!(holder.held(&word(0)), [lease(3)]);
        assert_eq!(
            holder.held(&word(1)),
            [lease(1), lease(3)],
            "it was given back, and what is held was asked for after that"
        );
        assert_eq!(holder.held(&word(2)), [lease(1), lease(2), lease(3)]);
        assert_eq!((returned.try_recv(), returned.try_recv()), (Ok(lease(1)), Ok(lease(2))));
        drop(words);
    }
}
