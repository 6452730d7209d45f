//! Invitations and consents: the nouns the ledger keeps of them, and who may connect what with which link.
//!
//! Never holds a secret: of a link, a state and a browser's cookie there are only digests here. Never trusts a claim: a
//! tenant reaches [`may_connect`] only after a token has named it.

use std::time::Duration;

use protocol::ids::TenantId;
use protocol::time::Timestamp;

/// How long a person may take from the link to Microsoft's answer. Shorter cuts off those who look for their second
/// factor; longer leaves open what was begun and given up.
pub const FLOW_LIFETIME: Duration = Duration::from_secs(20 * 60);

/// How long the page that shows collection beginning stays there for the browser that consented.
pub const VISIT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long after a consent a missing permission may still be on its way through Microsoft's directory (entra.md §3.5).
pub const PERMISSION_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The longest life of an invitation: a link that lies in a mailbox for a year is nobody's any more.
pub const INVITATION_LIFETIME_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The most uses of one invitation.
pub const INVITATION_USES_MAX: u32 = 100_000;

/// The longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 200;

/// The SHA-256 digest of a secret with 256 random bits: needs no salt, and says nothing of the secret.
pub type Digest = [u8; 32];

/// What an invitation is called on the command line: small, and given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationNumber(pub u64);

/// An invitation to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvitation {
    /// Of the link's secret.
    pub secret: Digest,
    /// Whom it is for, in the operator's words.
    pub label: String,
    /// The only tenant that may use it, when it is for one.
    pub tenant: Option<TenantId>,
    /// Not good from here on.
    pub expires_at: Timestamp,
    /// How many tenants it can connect; `None`: any number.
    pub uses_allowed: Option<u32>,
}

/// An invitation as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its number.
    pub number: InvitationNumber,
    /// Whom it is for, in the operator's words.
    pub label: String,
    /// The only tenant that may use it, when it is for one.
    pub tenant: Option<TenantId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Not good from here on.
    pub expires_at: Timestamp,
    /// How many tenants it can connect; `None`: any number.
    pub uses_allowed: Option<u32>,
    /// How many it has connected.
    pub uses: u32,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// Whether an invitation is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is.
    Open,
    /// Its time is over.
    Expired,
    /// It has connected as many tenants as it may.
    UsedUp,
    /// The operator took it back.
    Revoked,
}

impl Standing {
    /// The word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Expired => "expired",
            Self::UsedUp => "used_up",
            Self::Revoked => "revoked",
        }
    }
}

impl Invitation {
    /// Whether it is good at `now`; what the operator did comes before what happened by itself.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if self.uses_allowed.is_some_and(|allowed| self.uses >= allowed) {
            Standing::UsedUp
        } else if now >= self.expires_at {
            Standing::Expired
        } else {
            Standing::Open
        }
    }
}

/// Which page of Microsoft's a person was sent to, and so which answer is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The v1 authorize page: consent and proof in one, a code.
    Authorize,
    /// The v2 admin-consent page: a claim and no proof.
    AdminConsent,
    /// The sign-in after it, which proves what was claimed.
    SignIn,
}

/// A person on the way to Microsoft and back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentFlow {
    /// Of the state that went along.
    pub state: Digest,
    /// Of the cookie of the browser that began it.
    pub browser: Digest,
    /// By which invitation.
    pub invitation: InvitationNumber,
    /// Where to.
    pub leg: Leg,
    /// The directory segment of the page's address, when it names a tenant.
    pub tenant: Option<TenantId>,
    /// Not good from here on.
    pub expires_at: Timestamp,
}

/// What became of taking a flow back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is this one, and it is gone from the ledger: nobody can take it again.
    Flow(ConsentFlow),
    /// Another browser began it; it stays, for that one.
    OtherBrowser,
    /// There is none: never begun, over, or taken before.
    Unknown,
}

/// A browser that has proven which tenant it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Of its cookie.
    pub browser: Digest,
    /// The tenant, by a token's word.
    pub tenant: TenantId,
    /// By which invitation.
    pub invitation: InvitationNumber,
    /// The account that signed in.
    pub account: Option<String>,
    /// When it was proven.
    pub proven_at: Timestamp,
    /// When the tenant was taken on, if it was.
    pub accepted_at: Option<Timestamp>,
    /// Not shown from here on.
    pub expires_at: Timestamp,
}

/// What accepting a tenant did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acceptance {
    /// It is new.
    Added,
    /// It had been removed, and is collected again.
    CameBack,
    /// It was here already, and has consented anew.
    WasHere,
    /// This browser's visit had accepted it before; nothing was counted twice.
    Repeated,
    /// The invitation is not good any more; nothing was written.
    Refused(Standing),
    /// There is no such visit; nothing was written.
    NoVisit,
}

impl Acceptance {
    /// The word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::CameBack => "came_back",
            Self::WasHere => "was_here",
            Self::Repeated => "repeated",
            Self::Refused(standing) => standing.as_str(),
            Self::NoVisit => "no_visit",
        }
    }
}

/// A line of the consent log: who connected which tenant, when, by which invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentEntry {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub tenant: TenantId,
    /// By which invitation.
    pub invitation: InvitationNumber,
    /// Its label then.
    pub label: String,
    /// The account that signed in.
    pub account: Option<String>,
    /// What it did.
    pub acceptance: Acceptance,
}

/// Why a proven tenant is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TenantRefusal {
    /// The invitation is another tenant's.
    NotInvited,
    /// The operator's list does not name it.
    NotAllowed,
}

/// Whether a tenant that a token has named may be taken on: the invitation's own tenant, and one of the operator's list
/// when there is a list.
///
/// # Errors
/// When one of the two says no.
pub fn may_connect(
    invited: Option<TenantId>,
    allowed: Option<&[TenantId]>,
    tenant: TenantId,
) -> Result<(), TenantRefusal> {
    if invited.is_some_and(|invited| invited != tenant) {
        return Err(TenantRefusal::NotInvited);
    }
    if allowed.is_some_and(|allowed| !allowed.contains(&tenant)) {
        return Err(TenantRefusal::NotAllowed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn now() -> Timestamp {
        protocol::time::parse_timestamp("2026-03-04T12:00:00Z").unwrap()
    }

    fn tenant(number: u8) -> TenantId {
        format!("6a1c4f0e-7c39-4f0b-9d6e-0000000000{number:02x}").parse().unwrap()
    }

    #[test]
    fn an_invitation_is_good_until_its_time_its_uses_or_the_operator_end_it() {
        let open = Invitation {
            number: InvitationNumber(1),
            label: String::new(),
            tenant: None,
            created_at: now(),
            expires_at: now() + TimeDelta::hours(1),
            uses_allowed: Some(2),
            uses: 1,
            revoked_at: None,
        };
        let last = open.expires_at - TimeDelta::milliseconds(1);
        assert_eq!((open.standing(last), open.standing(open.expires_at)), (Standing::Open, Standing::Expired));
        let used = Invitation { uses: 2, ..open.clone() };
        assert_eq!(used.standing(now()), Standing::UsedUp);
        let endless = Invitation { uses: u32::MAX, uses_allowed: None, ..open };
        assert_eq!(endless.standing(now()), Standing::Open);
        let revoked = Invitation { revoked_at: Some(now()), ..used };
        assert_eq!(revoked.standing(now()), Standing::Revoked);
    }

    #[test]
    fn a_tenant_needs_the_invitation_and_the_list() {
        let (mine, other) = (tenant(1), tenant(2));
        for (invited, allowed, expected) in [
            (None, None, Ok(())),
            (Some(mine), None, Ok(())),
            (Some(mine), Some(vec![other, mine]), Ok(())),
            (Some(other), None, Err(TenantRefusal::NotInvited)),
            (None, Some(vec![other]), Err(TenantRefusal::NotAllowed)),
            // A list that names nobody allows nobody.
            (None, Some(vec![]), Err(TenantRefusal::NotAllowed)),
        ] {
            assert_eq!(may_connect(invited, allowed.as_deref(), mine), expected);
        }
    }
}
