//! What follows from a request that failed: again, when; or given up, as what; or not this request's business at all.
//!
//! Never gives a content up while it might still be had. Final is the service's own word that it expired; that it is
//! missing must be said several times over hours; that its bytes are no blob likewise; and our own clock alone decides
//! nothing. What is the tenant's trouble, or everybody's, is never counted against a content.

use std::time::Duration;

use chrono::TimeDelta;
use protocol::error::{
    AdminStep, BackOffCause, Concern, ConfigurationFault, DisabledBy, Disposition, Loss, WebhookFault,
};
use protocol::time::Timestamp;

use crate::model::{Jitter, LossKind};
use crate::problem::ProblemKind;

/// The waits between attempts: doubled from the first to the second.
type Waits = (Duration, Duration);

/// Between attempts at a content, all day. Shorter: a blob that never works is asked for without end. Longer: a fault of a
/// minute delays its records by much more.
const FETCH_AGAIN: Waits = (Duration::from_secs(15), Duration::from_secs(60 * 60));
/// The same where only time can change the answer: a content that is missing, or an error nobody knows.
const FETCH_SLOWLY: Waits = (Duration::from_secs(2 * 60), Duration::from_secs(4 * 60 * 60));
/// The same within `collect --once`, where somebody waits for the end.
const FETCH_ONCE: Waits = (Duration::from_secs(1), Duration::from_secs(30));
/// Failures of one content within `collect --once` after which the run ends without it: with the waits above about two
/// minutes. Fewer: a bad minute of the service makes a run incomplete. More: one poison blob holds every run up.
pub const ONCE_ATTEMPTS: u32 = 8;
/// Failures in a row after which the waits of a listing or start within `collect --once` grow no more: with them and the
/// attempts above, about two minutes too. What the service tells to wait is waited all the same.
const ONCE_GROWS: u32 = 3;

/// The last attempt comes at least this long before the content expires.
const BEFORE_EXPIRY: Duration = Duration::from_secs(20 * 60);
/// A content that has expired by our clock is still asked for this long, as our clock may be wrong ...
const AFTER_EXPIRY: Duration = Duration::from_secs(60 * 60);
/// ... and this often, all its failures counted.
const EXPIRED_ATTEMPTS: u32 = 5;

/// "Does not exist" is believed after this many failures ...
const MISSING_ATTEMPTS: u32 = 5;
/// ... over at least this span since the content was first seen. Several servers publish; one may not know yet what
/// another has listed. Listing its window once more brings a content back that was given up by mistake.
const MISSING_OVER: Duration = Duration::from_secs(6 * 60 * 60);

/// "No blob" is believed after this many failures ...
const UNREADABLE_ATTEMPTS: u32 = 5;
/// ... over at least this span. Its bytes are in quarantine then, so nothing is lost that was delivered.
const UNREADABLE_OVER: Duration = Duration::from_secs(60 * 60);

/// Between attempts at a listing or another small request.
const REQUEST_AGAIN: Waits = (Duration::from_secs(5), Duration::from_secs(10 * 60));
/// Between attempts while nobody answers at all.
const UNREACHABLE: Waits = (Duration::from_secs(5), Duration::from_secs(5 * 60));
/// Between attempts while the tenant's admin has something to do. Consent needs some minutes to reach all servers.
const ADMIN: Waits = (Duration::from_secs(30), Duration::from_secs(60 * 60));
/// The same while auditing is off: an hour or more after it was switched on (activity-api.md §9), and never sooner than
/// the service allows another start.
const AUDITING_OFF: Waits = (Duration::from_secs(16 * 60), Duration::from_secs(60 * 60));
/// The same for a tenant that may not exist any more.
const TENANT_UNKNOWN: Waits = (Duration::from_secs(5 * 60), Duration::from_secs(6 * 60 * 60));
/// Between attempts at what nobody has described, or what is our own fault.
const SLOWLY: Waits = (Duration::from_secs(5 * 60), Duration::from_secs(60 * 60));

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// With an error of the Activity API.
    Answered(Disposition),
    /// The token was refused, and so was a fresh one.
    RefusedAgain(AdminStep),
    /// There was no answer: no connection, or none in time.
    NoAnswer,
    /// The answer began and broke off.
    BrokenOff,
    /// The answer came whole and is no blob, or no blob of a size we take.
    NoBlob,
    /// The URL may not be given the tenant's token.
    RefusedUrl,
}

/// Who waits for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Nobody: the daemon.
    AllDay,
    /// Somebody, for the end of this run.
    Once {
        /// Failures of this content (or request) within this run, this one not included.
        failures: u32,
    },
}

/// What is known of the content whose fetch has failed.
#[derive(Debug, Clone, Copy)]
pub struct FetchAttempt {
    /// Now.
    pub now: Timestamp,
    /// When the content was first seen.
    pub seen_at: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// Failures of this content before this one, as the ledger counts them.
    pub attempts: u32,
    /// How many times in a row the tenant was held up before this, by whatever trouble of its own.
    pub held_before: u32,
    /// Who waits.
    pub patience: Patience,
    /// Spread.
    pub jitter: Jitter,
}

/// What follows for a content whose fetch has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStep {
    /// It counts as a failure of this content; it is tried again.
    Again {
        /// When.
        at: Timestamp,
        /// Its window is to be listed at once: the content may have been cut anew under another id.
        relist: bool,
        /// Whether a run of `collect --once` waits for it. Always true all day.
        within_run: bool,
    },
    /// It is given up.
    Lost(LossKind),
    /// The content has nothing to do with it: it stays as it is, without counting.
    Hold(Hold),
}

/// What holds more than one request up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The tenant's quota: [`crate::pacing::Bucket::throttled`].
    Throttled {
        /// The wait the service asked for.
        told: Option<Duration>,
    },
    /// The token: drop it and ask once more with a fresh one.
    FreshToken,
    /// The subscription: list them, and act by [`crate::subscription::after_refusal`].
    Resubscribe {
        /// Who switched it off, when the service says so.
        disabled_by: Option<DisabledBy>,
    },
    /// Something to be shown, and tried again after a while.
    Problem {
        /// What.
        kind: ProblemKind,
        /// How far it reaches: nothing within that reach is asked for in the meantime.
        concern: Concern,
        /// How long, from now.
        wait: Duration,
    },
}

/// What follows for a listing, a start or another small request that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStep {
    /// The same again (a listing: from its first page).
    Again {
        /// After this.
        wait: Duration,
    },
    /// Plan anew with the clock as it is now, then list: the window was out of reach.
    PlanAnew {
        /// After this.
        wait: Duration,
    },
    /// The subscription is enabled as asked.
    Enabled,
    /// No start of this tenant before the wait is over; everything else goes on.
    StartLater {
        /// How long.
        wait: Duration,
    },
    /// The webhook was refused, polling goes on; start without it.
    WithoutWebhook(WebhookFault),
    /// It is more than this request's trouble.
    Hold(Hold),
}

/// What follows from a failed fetch.
pub fn after_fetch(trouble: Trouble, attempt: &FetchAttempt) -> FetchStep {
    match trouble {
        Trouble::Answered(disposition) => after_answered_fetch(disposition, attempt),
        Trouble::RefusedAgain(step) => FetchStep::Hold(refused_again(step, held(attempt), attempt.jitter)),
        // Nobody answers anybody: not this content's failure.
        Trouble::NoAnswer => FetchStep::Hold(unreachable(held(attempt), attempt.jitter)),
        Trouble::BrokenOff => again(attempt, FETCH_AGAIN, None),
        Trouble::NoBlob if confirmed(attempt, UNREADABLE_ATTEMPTS, UNREADABLE_OVER) => {
            FetchStep::Lost(LossKind::Unreadable)
        }
        Trouble::NoBlob => again(attempt, FETCH_AGAIN, None),
        Trouble::RefusedUrl => refused_url(attempt),
    }
}

fn after_answered_fetch(disposition: Disposition, attempt: &FetchAttempt) -> FetchStep {
    match disposition {
        Disposition::RetryAfter { wait, cause: BackOffCause::Throttled } => {
            FetchStep::Hold(Hold::Throttled { told: Some(wait) })
        }
        Disposition::BackOff { cause: BackOffCause::Throttled } => FetchStep::Hold(Hold::Throttled { told: None }),
        // The text belongs to start requests; whoever sends it for a blob wants less of us all the same.
        Disposition::StartLater(wait) => FetchStep::Hold(Hold::Throttled { told: Some(wait) }),
        Disposition::RetryAfter { wait, cause: BackOffCause::ServiceFault } => again(attempt, FETCH_AGAIN, Some(wait)),
        Disposition::BackOff { cause: BackOffCause::ServiceFault } => again(attempt, FETCH_AGAIN, None),
        Disposition::NewToken { .. } => FetchStep::Hold(Hold::FreshToken),
        Disposition::NeedsTenantAdmin(step) => FetchStep::Hold(admin(step, held(attempt), attempt.jitter)),
        Disposition::NotSubscribed { disabled_by } => FetchStep::Hold(Hold::Resubscribe { disabled_by }),
        Disposition::Gone(Loss::Expired) => FetchStep::Lost(LossKind::Expired),
        Disposition::Gone(Loss::Missing | Loss::BadId) => missing(attempt),
        // None of these is an answer to a fetch: the service is confused, or somebody else answers in its place.
        Disposition::AlreadyEnabled
        | Disposition::RestartWindow
        | Disposition::ReclampWindow
        | Disposition::WebhookRefused(_)
        | Disposition::FixConfiguration(_)
        | Disposition::RetrySlowly
        | Disposition::Bug => again(attempt, FETCH_SLOWLY, None),
    }
}

/// The service does not know it, or cannot read its id.
fn missing(attempt: &FetchAttempt) -> FetchStep {
    if attempt.now >= attempt.expires {
        // That it is gone is the service's word, that its time was over is ours, and the two agree.
        return FetchStep::Lost(LossKind::Expired);
    }
    if confirmed(attempt, MISSING_ATTEMPTS, MISSING_OVER) {
        return FetchStep::Lost(LossKind::Missing);
    }
    match again(attempt, FETCH_SLOWLY, None) {
        FetchStep::Again { at, within_run, .. } => FetchStep::Again { at, relist: attempt.attempts == 0, within_run },
        other => other,
    }
}

/// Asking costs nothing, as nothing is sent: a configuration that is corrected, or a listing with the right URL, mends it.
fn refused_url(attempt: &FetchAttempt) -> FetchStep {
    if attempt.now >= attempt.expires {
        return FetchStep::Lost(LossKind::RefusedUrl);
    }
    match again(attempt, FETCH_SLOWLY, None) {
        // The run of somebody who waits cannot change it.
        FetchStep::Again { at, .. } => FetchStep::Again { at, relist: attempt.attempts == 0, within_run: false },
        other => other,
    }
}

fn held(attempt: &FetchAttempt) -> u32 {
    attempt.held_before.saturating_add(1)
}

/// Whether a failure has been seen often enough and for long enough, this time included.
fn confirmed(attempt: &FetchAttempt, attempts: u32, over: Duration) -> bool {
    attempt.attempts.saturating_add(1) >= attempts && attempt.now >= after(attempt.seen_at, over)
}

fn again(attempt: &FetchAttempt, waits: Waits, told: Option<Duration>) -> FetchStep {
    let FetchAttempt { now, expires, attempts, jitter, .. } = *attempt;
    if now >= after(expires, AFTER_EXPIRY) && attempts.saturating_add(1) >= EXPIRED_ATTEMPTS {
        return FetchStep::Lost(LossKind::Expired);
    }
    let (waits, failures, within_run) = match attempt.patience {
        Patience::AllDay => (waits, attempts, true),
        Patience::Once { failures } if failures.saturating_add(1) < ONCE_ATTEMPTS => (FETCH_ONCE, failures, true),
        // The run ends without it; the next run, or a daemon, takes its own time.
        Patience::Once { .. } => (waits, attempts, false),
    };
    let wait = grown(waits, failures.saturating_add(1), jitter).max(told.unwrap_or(Duration::ZERO));
    let at = after(now, wait);
    // One attempt comes shortly before it expires, however slow the waits have become.
    let last = TimeDelta::from_std(BEFORE_EXPIRY).ok().and_then(|margin| expires.checked_sub_signed(margin));
    let at = match last {
        Some(last) if last > now && told.is_none() => at.min(last),
        _ => at,
    };
    FetchStep::Again { at, relist: false, within_run }
}

impl Patience {
    /// The failures in a row that a wait is to grow by, of so many there were.
    pub fn paced(self, failures: u32) -> u32 {
        match self {
            Self::AllDay => failures,
            Self::Once { .. } => failures.min(ONCE_GROWS),
        }
    }
}

/// Failures in a row, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InARow {
    /// Of this request: of one content type's listings or starts, or of the list of subscriptions.
    pub request: u32,
    /// Times the tenant was held up, whichever of its requests met what is in its way.
    pub tenant: u32,
}

impl InARow {
    /// As many of both as `patience` lets a wait grow by.
    pub fn paced(self, patience: Patience) -> Self {
        Self { request: patience.paced(self.request), tenant: patience.paced(self.tenant) }
    }

    /// For what holds the whole tenant up. A content type that meets it as the first of its kind does not begin anew what
    /// another has begun; and one that meets it alone, while the others are answered, waits longer each time all the same.
    fn of_tenant(self) -> u32 {
        self.tenant.max(self.request)
    }
}

/// How many of a tenant's requests may be under way of the `most` that are allowed. After the tenant was held up, one asks
/// whether it is over: a hundred that wait would be answered alike, and each would cost a fresh token.
pub fn at_once(most: usize, was_held: bool) -> usize {
    if was_held { most.min(1) } else { most }
}

/// What follows from a failed listing, start or other small request.
pub fn after_request(trouble: Trouble, in_a_row: InARow, jitter: Jitter) -> RequestStep {
    let (failures, of_tenant) = (in_a_row.request, in_a_row.of_tenant());
    let disposition = match trouble {
        Trouble::Answered(disposition) => disposition,
        Trouble::RefusedAgain(step) => return RequestStep::Hold(refused_again(step, of_tenant, jitter)),
        Trouble::NoAnswer => return RequestStep::Hold(unreachable(of_tenant, jitter)),
        Trouble::BrokenOff | Trouble::NoBlob => {
            return RequestStep::Again { wait: grown(REQUEST_AGAIN, failures, jitter) };
        }
        // A next page that points elsewhere: from the first page it may not.
        Trouble::RefusedUrl => {
            return problem(ProblemKind::UnknownAnswer, Concern::ContentType, SLOWLY, failures, jitter);
        }
    };
    match disposition {
        Disposition::RetryAfter { wait, cause: BackOffCause::Throttled } => {
            RequestStep::Hold(Hold::Throttled { told: Some(wait) })
        }
        Disposition::BackOff { cause: BackOffCause::Throttled } => RequestStep::Hold(Hold::Throttled { told: None }),
        Disposition::RetryAfter { wait, cause: BackOffCause::ServiceFault } => {
            RequestStep::Again { wait: grown(REQUEST_AGAIN, failures, jitter).max(wait) }
        }
        Disposition::BackOff { cause: BackOffCause::ServiceFault } => {
            RequestStep::Again { wait: grown(REQUEST_AGAIN, failures, jitter) }
        }
        Disposition::NewToken { .. } => RequestStep::Hold(Hold::FreshToken),
        Disposition::NeedsTenantAdmin(step) => RequestStep::Hold(admin(step, of_tenant, jitter)),
        Disposition::NotSubscribed { disabled_by } => RequestStep::Hold(Hold::Resubscribe { disabled_by }),
        Disposition::AlreadyEnabled => RequestStep::Enabled,
        Disposition::StartLater(wait) => RequestStep::StartLater { wait: wait + jitter.spread(wait / 20) },
        // The first time it costs nothing to begin at the first page at once; pages that keep expiring are a fault.
        Disposition::RestartWindow if failures <= 1 => RequestStep::Again { wait: Duration::ZERO },
        Disposition::RestartWindow => RequestStep::Again { wait: grown(REQUEST_AGAIN, failures, jitter) },
        Disposition::ReclampWindow if failures <= 2 => RequestStep::PlanAnew { wait: Duration::from_secs(1) },
        // A window that was in reach by our clock and out of it by the service's, again and again.
        Disposition::ReclampWindow => problem(ProblemKind::ClockWrong, Concern::ContentType, SLOWLY, failures, jitter),
        Disposition::WebhookRefused(fault) => RequestStep::WithoutWebhook(fault),
        Disposition::FixConfiguration(ConfigurationFault::ContentType) => {
            problem(ProblemKind::UnknownContentType, Concern::ContentType, SLOWLY, failures, jitter)
        }
        // Content has no business in a listing; who answers so is confused.
        Disposition::Gone(_) | Disposition::RetrySlowly => {
            problem(ProblemKind::UnknownAnswer, Concern::ContentType, SLOWLY, failures, jitter)
        }
        Disposition::Bug => problem(ProblemKind::OurFault, Concern::ContentType, SLOWLY, failures, jitter),
    }
}

/// Whether a run of `collect --once` ends for a tenant (or content type) that this problem holds up: when waiting for some
/// minutes will not help, or has not. `failures` in a row within the run.
pub fn ends_run(kind: ProblemKind, failures: u32) -> bool {
    match kind {
        ProblemKind::Throttled
        | ProblemKind::ServiceDown
        | ProblemKind::Unreachable
        | ProblemKind::LedgerLocked
        | ProblemKind::LedgerUnreachable
        | ProblemKind::ArchiveUnavailable => failures >= ONCE_ATTEMPTS,
        // A start that was just asked for is enabled within a moment, or not in this run.
        ProblemKind::SubscriptionMissing => failures >= 3,
        ProblemKind::Admin(_)
        | ProblemKind::App(_)
        | ProblemKind::SubscriptionDisabled
        | ProblemKind::UnknownContentType
        | ProblemKind::ClockWrong
        | ProblemKind::UnknownAnswer
        | ProblemKind::OurFault
        | ProblemKind::LedgerUnusable
        | ProblemKind::DiskFull => true,
    }
}

fn problem(kind: ProblemKind, concern: Concern, waits: Waits, failures: u32, jitter: Jitter) -> RequestStep {
    RequestStep::Hold(Hold::Problem { kind, concern, wait: grown(waits, failures, jitter) })
}

/// Two tokens refused one after the other are a hiccup of the service as long as Entra ID goes on issuing them; only when
/// it happens again and again is it what the admin has to mend.
fn refused_again(step: AdminStep, failures: u32, jitter: Jitter) -> Hold {
    if failures < REFUSED_AGAIN_MIN {
        let wait = grown(REQUEST_AGAIN, failures, jitter);
        return Hold::Problem { kind: ProblemKind::ServiceDown, concern: Concern::Tenant, wait };
    }
    admin(step, failures - REFUSED_AGAIN_MIN + 1, jitter)
}

/// So many times in a row. Fewer: one bad minute of the service sends people to their admins. More: a revoked consent is
/// shown minutes late.
const REFUSED_AGAIN_MIN: u32 = 3;

fn admin(step: AdminStep, failures: u32, jitter: Jitter) -> Hold {
    let waits = match step {
        AdminStep::EnableAuditing => AUDITING_OFF,
        AdminStep::CheckTenant | AdminStep::CheckCloud | AdminStep::SubscribeToOffice365 => TENANT_UNKNOWN,
        AdminStep::GrantPermission
        | AdminStep::GiveConsent
        | AdminStep::AllowApp
        | AdminStep::AllowNetwork
        | AdminStep::AskMicrosoft => ADMIN,
    };
    Hold::Problem { kind: ProblemKind::Admin(step), concern: Concern::Tenant, wait: grown(waits, failures, jitter) }
}

fn unreachable(failures: u32, jitter: Jitter) -> Hold {
    let wait = grown(UNREACHABLE, failures, jitter);
    Hold::Problem { kind: ProblemKind::Unreachable, concern: Concern::Tenant, wait }
}

/// The wait after the `failures`-th failure in a row; 0 counts as the first.
fn grown((first, longest): Waits, failures: u32, jitter: Jitter) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    jitter.spread(first.saturating_mul(1 << doublings).min(longest))
}

fn after(time: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_add_signed(by)).unwrap_or(Timestamp::MAX_UTC)
}
