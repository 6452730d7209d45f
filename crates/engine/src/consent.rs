//! Invitations and consents: the nouns the ledger keeps of them, and who may connect what with which link.
//!
//! Never holds a secret: of a link, a state and a browser's cookie there are only digests here. Never trusts a claim: a
//! tenant reaches [`may_connect`] only after a token has named it.

use std::time::Duration;

use protocol::consent::AdminRole;
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
    /// The account's roles are told, and none of them may consent for the organization.
    NotAnAdmin,
    /// The operator wants an administrator's role seen, and the sign-in tells of no roles.
    RoleUntold,
    /// It was offboarded, and neither an administrator's role nor a link made for it speaks for its return.
    Offboarded,
}

impl TenantRefusal {
    /// Every refusal, for documentation and tests.
    pub const ALL: [Self; 5] =
        [Self::NotInvited, Self::NotAllowed, Self::NotAnAdmin, Self::RoleUntold, Self::Offboarded];

    /// The word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotInvited => "not_invited",
            Self::NotAllowed => "not_allowed",
            Self::NotAnAdmin => "not_an_admin",
            Self::RoleUntold => "role_untold",
            Self::Offboarded => "offboarded",
        }
    }
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

/// By which rules a proven tenant is taken on.
#[derive(Debug, Clone, Copy)]
pub struct DoorRules<'a> {
    /// The only tenant of the invitation, when it is for one.
    pub invited: Option<TenantId>,
    /// The operator's list, when there is one.
    pub allowed: Option<&'a [TenantId]>,
    /// Whether nobody is let in whose administrator's role is not seen.
    pub role_required: bool,
}

/// Who has signed in, and for which tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// The tenant, by a token's word.
    pub tenant: TenantId,
    /// What the same tokens say of the account's roles.
    pub role: AdminRole,
    /// Whether this tenant was collected once and has been offboarded.
    pub was_offboarded: bool,
}

/// Whether a proven tenant is taken on.
///
/// That the app holds its permission in a tenant proves that an administrator consented, some day. It does not prove that
/// it is an administrator who holds this link: the address of Microsoft's page lies in the person's own browser, and
/// without `prompt=admin_consent` it lets any member of a tenant pass that has consented before. So one of two has to speak
/// for it beside the permission: the account's role, where the tokens tell of roles, or the operator, by a link for this
/// tenant alone. Where neither says anything, a tenant that nobody has known here may still begin, since its permission
/// stands; one that was offboarded may not come back.
///
/// # Errors
/// When the answer is no.
pub fn may_take_on(rules: &DoorRules<'_>, claimant: &Claimant) -> Result<(), TenantRefusal> {
    may_connect(rules.invited, rules.allowed, claimant.tenant)?;
    let operator_named_it = rules.invited == Some(claimant.tenant) && !rules.role_required;
    match claimant.role {
        AdminRole::Held => Ok(()),
        // Whoever may consent by a role of the tenant's own making has none of Microsoft's roles to show.
        AdminRole::NotHeld | AdminRole::Untold if operator_named_it => Ok(()),
        AdminRole::NotHeld => Err(TenantRefusal::NotAnAdmin),
        AdminRole::Untold if rules.role_required => Err(TenantRefusal::RoleUntold),
        AdminRole::Untold if claimant.was_offboarded => Err(TenantRefusal::Offboarded),
        AdminRole::Untold => Ok(()),
    }
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

    #[test]
    fn beside_the_permission_a_role_or_the_operator_speaks_for_a_tenant() {
        use AdminRole::{Held, NotHeld, Untold};
        let (mine, other) = (tenant(1), tenant(2));
        let open = DoorRules { invited: None, allowed: None, role_required: false };
        let bound = DoorRules { invited: Some(mine), ..open };
        let strict = DoorRules { role_required: true, ..open };
        let strict_and_bound = DoorRules { role_required: true, ..bound };
        let not_an_admin = Err(TenantRefusal::NotAnAdmin);
        for (rules, role, new, offboarded) in [
            (open, Held, Ok(()), Ok(())),
            (open, NotHeld, not_an_admin, not_an_admin),
            (open, Untold, Ok(()), Err(TenantRefusal::Offboarded)),
            (bound, Held, Ok(()), Ok(())),
            (bound, NotHeld, Ok(()), Ok(())),
            (bound, Untold, Ok(()), Ok(())),
            (strict, Held, Ok(()), Ok(())),
            (strict, NotHeld, not_an_admin, not_an_admin),
            (strict, Untold, Err(TenantRefusal::RoleUntold), Err(TenantRefusal::RoleUntold)),
            (strict_and_bound, NotHeld, not_an_admin, not_an_admin),
            (strict_and_bound, Untold, Err(TenantRefusal::RoleUntold), Err(TenantRefusal::RoleUntold)),
        ] {
            for (was_offboarded, expected) in [(false, new), (true, offboarded)] {
                let claimant = Claimant { tenant: mine, role, was_offboarded };
                assert_eq!(may_take_on(&rules, &claimant), expected, "{rules:?} {claimant:?}");
            }
        }
        // An administrator of the wrong tenant is none.
        let stranger = Claimant { tenant: other, role: Held, was_offboarded: false };
        assert_eq!(may_take_on(&bound, &stranger), Err(TenantRefusal::NotInvited));
        let listed = DoorRules { allowed: Some(&[mine]), ..open };
        assert_eq!(may_take_on(&listed, &stranger), Err(TenantRefusal::NotAllowed));
    }
}
