//! The table of activity-api.md §9: which error is which kind of trouble.
//!
//! Never wider than that table: the enums here are closed, so that the engine can match on them without a wildcard, and
//! how long to wait, how often to try and when to give up is the engine's to say.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::{ErrorAnswer, ErrorCode, Operation};

/// How long to wait after a start request before the next one (activity-api.md §2.1).
pub const START_THROTTLE: Duration = Duration::from_secs(15 * 60);

/// The kinds of trouble with the Activity API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Ask again, no sooner than the server said.
    RetryAfter {
        /// The server's wait, at most [`crate::response::MAX_RETRY_AFTER`].
        wait: Duration,
        /// Why.
        cause: BackOffCause,
    },
    /// Ask again, with growing waits; the server did not say when.
    BackOff {
        /// Why.
        cause: BackOffCause,
    },
    /// Drop the token, fetch a fresh one and ask once more; if that gets the same answer, it is the admin's.
    NewToken {
        /// What a repetition with a fresh token means.
        if_repeated: AdminStep,
    },
    /// Nothing we can do mends it; tell the operator the step, and look again slowly.
    NeedsTenantAdmin(AdminStep),
    /// There is no enabled subscription: list, start what is missing (activity-api.md §9, AF20022 and AF20023).
    NotSubscribed {
        /// Who switched it off, when the service says so.
        disabled_by: Option<DisabledBy>,
    },
    /// The subscription is enabled as asked: success in the guise of an error (AF20024).
    AlreadyEnabled,
    /// Start was called too often; no start for this tenant before the wait is over. Everything else goes on.
    StartLater(Duration),
    /// This content cannot be had.
    Gone(Loss),
    /// The next-page token is no longer good: list the window from its beginning (AF20031).
    RestartWindow,
    /// The window's times are out of range: cut it to what may be asked now, and look at the clock (AF20030, AF20055).
    ReclampWindow,
    /// The webhook was not accepted; polling goes on without it.
    WebhookRefused(WebhookFault),
    /// Our own configuration asks for something that does not exist.
    FixConfiguration(ConfigurationFault),
    /// An error nobody has described: show it as it is, and try again slowly.
    RetrySlowly,
    /// The request was wrong; sending it again cannot help. Show it as our fault.
    Bug,
}

/// Why to go slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackOffCause {
    /// The tenant's quota is used up (AF429); its every request waits.
    Throttled,
    /// The service is not well; it may last for days (deviation D7), and nobody need be woken.
    ServiceFault,
}

/// What only somebody with rights in the tenant can mend. Also used by [`crate::entra`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdminStep {
    /// Unified audit logging is off, or was switched on a moment ago.
    EnableAuditing,
    /// Consent was given without the application permission `ActivityFeed.Read`.
    GrantPermission,
    /// There is no consent: never given, or revoked.
    GiveConsent,
    /// The app is disabled, or not assigned, in the tenant.
    AllowApp,
    /// A Conditional Access policy keeps the app out.
    AllowNetwork,
    /// The tenant is unknown or deleted; or the id has a typing error.
    CheckTenant,
    /// The tenant belongs to another cloud than the configured one.
    CheckCloud,
    /// The tenant has no Office 365 subscription, so the service does not exist in it.
    SubscribeToOffice365,
    /// The tenant is set up wrongly on Microsoft's side.
    AskMicrosoft,
}

impl AdminStep {
    /// What is wrong, in the operator's words; a fragment without a full stop.
    pub fn problem(self) -> &'static str {
        match self {
            Self::EnableAuditing => "unified audit logging is off in this tenant",
            Self::GrantPermission => "the application permission ActivityFeed.Read is missing",
            Self::GiveConsent => "this tenant's consent was never given or has been revoked",
            Self::AllowApp => "the app is disabled or not assigned in this tenant",
            Self::AllowNetwork => "a Conditional Access policy of this tenant blocks the app",
            Self::CheckTenant => "Microsoft does not know this tenant",
            Self::CheckCloud => "this tenant is not in the configured cloud",
            Self::SubscribeToOffice365 => "this tenant has no Office 365 subscription",
            Self::AskMicrosoft => "this tenant is misconfigured on Microsoft's side",
        }
    }

    /// The step that mends it; a sentence without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::EnableAuditing => {
                "a tenant admin switches auditing on in the Purview portal (or: Set-AdminAuditLogConfig \
                 -UnifiedAuditLogIngestionEnabled $true); it takes an hour or more to act"
            }
            Self::GrantPermission => {
                "add the application (not delegated) permission ActivityFeed.Read of \"Office 365 Management APIs\" to \
                 the app registration and have a tenant admin consent again"
            }
            Self::GiveConsent => "send the tenant's admin a new consent link",
            Self::AllowApp => "a tenant admin enables or assigns the app under Enterprise applications",
            Self::AllowNetwork => "a tenant admin excludes the app, or allows this machine's address, in the policy",
            Self::CheckTenant => "check the tenant id for typing errors; remove the tenant if it was deleted",
            Self::CheckCloud => {
                "collect it with a configuration of its own: [cloud] name set to the tenant's cloud, and an app registered \
                 there; `tenantry doctor --tenant ID` says which it is"
            }
            Self::SubscribeToOffice365 => "the tenant needs a plan with Office 365; remove it if it is not meant to",
            Self::AskMicrosoft => "open a support ticket with Microsoft, with the correlation id of this error",
        }
    }
}

impl fmt::Display for AdminStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem(), self.remedy())
    }
}

/// Who switched a subscription off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisabledBy {
    /// An admin of the tenant.
    TenantAdmin,
    /// Microsoft.
    ServiceAdmin,
}

/// Why content cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Its seven days are over (AF20051). Final.
    Expired,
    /// The service does not know it (AF20050, or a plain 404). List its window once more before calling it lost.
    Missing,
    /// The service cannot read its id (AF20052): mostly the wrong cloud, else a mangled id. As [`Loss::Missing`].
    BadId,
}

impl Loss {
    /// Whether listing the window once more may bring it back.
    pub fn relist_first(self) -> bool {
        match self {
            Self::Expired => false,
            Self::Missing | Self::BadId => true,
        }
    }
}

/// Why the webhook was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebhookFault {
    /// Its address did not answer the validation with HTTP 200, or is not https (AF20021).
    NotValidated,
    /// Its expiration lies in the past (AF20003).
    ExpirationPast,
}

/// What in our configuration is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigurationFault {
    /// `collect.content_types` names a type the service does not have (AF20020).
    ContentType,
}

/// How far a trouble reaches, smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Concern {
    /// One blob.
    Content,
    /// One content type of one tenant.
    ContentType,
    /// One tenant.
    Tenant,
    /// Every tenant of the app.
    App,
}

impl Disposition {
    /// How far the trouble reaches when it met `operation`.
    pub fn concern(self, operation: Operation) -> Concern {
        match self {
            Self::RetryAfter { cause, .. } | Self::BackOff { cause } => match cause {
                BackOffCause::Throttled => Concern::Tenant,
                BackOffCause::ServiceFault => operation.concern(),
            },
            Self::NewToken { .. } | Self::NeedsTenantAdmin(_) => Concern::Tenant,
            // Whether the 15 minutes are counted per content type too is not stated; the tenant is the safe reading.
            Self::StartLater(_) => Concern::Tenant,
            Self::NotSubscribed { .. }
            | Self::AlreadyEnabled
            | Self::RestartWindow
            | Self::ReclampWindow
            | Self::WebhookRefused(_) => Concern::ContentType,
            Self::FixConfiguration(ConfigurationFault::ContentType) => Concern::ContentType,
            Self::Gone(_) => Concern::Content,
            Self::RetrySlowly | Self::Bug => operation.concern(),
        }
    }
}

impl Operation {
    /// How far a failure of this operation reaches when nothing else is known.
    fn concern(self) -> Concern {
        match self {
            Self::RetrieveContent => Concern::Content,
            Self::StartSubscription | Self::StopSubscription | Self::ListContent | Self::ListNotifications => {
                Concern::ContentType
            }
            Self::ListSubscriptions | Self::ResourceFriendlyNames => Concern::Tenant,
        }
    }
}

/// By code first and by status second: most statuses of the table are presumed.
pub(super) fn of_answer(answer: &ErrorAnswer) -> Disposition {
    match &answer.code {
        ErrorCode::Af(number) => of_af_code(*number, answer).unwrap_or_else(|| of_status(answer)),
        ErrorCode::StartThrottled => start_later(answer),
        ErrorCode::TenantDoesNotExist => Disposition::NeedsTenantAdmin(AdminStep::EnableAuditing),
        ErrorCode::MissingTimeParameter => Disposition::Bug,
        ErrorCode::Other(_) | ErrorCode::None => of_words(answer).unwrap_or_else(|| of_status(answer)),
    }
}

fn of_af_code(number: u32, answer: &ErrorAnswer) -> Option<Disposition> {
    Some(match number {
        429 => wait_or_back_off(answer, BackOffCause::Throttled),
        10001 => Disposition::NewToken { if_repeated: AdminStep::GrantPermission },
        20001 | 20002 | 20010 | 20013 | 20053 | 20054 => Disposition::Bug,
        20003 => Disposition::WebhookRefused(WebhookFault::ExpirationPast),
        20011 => Disposition::NeedsTenantAdmin(AdminStep::CheckTenant),
        20012 => Disposition::NeedsTenantAdmin(AdminStep::AskMicrosoft),
        20020 => Disposition::FixConfiguration(ConfigurationFault::ContentType),
        20021 => Disposition::WebhookRefused(WebhookFault::NotValidated),
        20022 | 20023 => Disposition::NotSubscribed { disabled_by: disabled_by(&answer.message) },
        20024 => Disposition::AlreadyEnabled,
        20030 | 20055 => Disposition::ReclampWindow,
        20031 => Disposition::RestartWindow,
        20050 => Disposition::Gone(Loss::Missing),
        20051 => Disposition::Gone(Loss::Expired),
        20052 => Disposition::Gone(Loss::BadId),
        50000 | 50005 | 50006 => wait_or_back_off(answer, BackOffCause::ServiceFault),
        _ => return None,
    })
}

/// Texts that came without a code of their own.
fn of_words(answer: &ErrorAnswer) -> Option<Disposition> {
    let words = answer.message.to_ascii_lowercase();
    if words.contains("too many requests") {
        return Some(wait_or_back_off(answer, BackOffCause::Throttled));
    }
    if words.contains("subscription was disabled") {
        return Some(Disposition::NotSubscribed { disabled_by: disabled_by(&words) });
    }
    if words.contains("does not include the expected permission") {
        return Some(Disposition::NewToken { if_repeated: AdminStep::GrantPermission });
    }
    None
}

fn of_status(answer: &ErrorAnswer) -> Disposition {
    match answer.status {
        StatusCode::UNAUTHORIZED => Disposition::NewToken { if_repeated: AdminStep::GiveConsent },
        StatusCode::TOO_MANY_REQUESTS if answer.operation == Operation::StartSubscription => start_later(answer),
        StatusCode::TOO_MANY_REQUESTS => wait_or_back_off(answer, BackOffCause::Throttled),
        StatusCode::NOT_FOUND if answer.operation == Operation::RetrieveContent => Disposition::Gone(Loss::Missing),
        StatusCode::REQUEST_TIMEOUT => wait_or_back_off(answer, BackOffCause::ServiceFault),
        status if status.is_server_error() => wait_or_back_off(answer, BackOffCause::ServiceFault),
        // HTTP 200 with an error object that names nothing we know: the service contradicts itself; ask again.
        status if status.is_success() => wait_or_back_off(answer, BackOffCause::ServiceFault),
        _ => Disposition::RetrySlowly,
    }
}

fn wait_or_back_off(answer: &ErrorAnswer, cause: BackOffCause) -> Disposition {
    match answer.retry_after {
        Some(wait) => Disposition::RetryAfter { wait, cause },
        None => Disposition::BackOff { cause },
    }
}

/// The wait sits in prose; a header, should one come, is the server's word too, and the longer of both is safe.
fn start_later(answer: &ErrorAnswer) -> Disposition {
    let told = wait_in_prose(&answer.message).max(answer.retry_after);
    Disposition::StartLater(told.unwrap_or(START_THROTTLE))
}

/// Finds `8m 46s`. `None` when the text has no such wait, or one longer than a day.
fn wait_in_prose(message: &str) -> Option<Duration> {
    let mut words = message.split_ascii_whitespace().peekable();
    while let Some(word) = words.next() {
        let Some(minutes) = count_before(word, 'm') else { continue };
        let Some(seconds) = words.peek().and_then(|next| count_before(next, 's')) else { continue };
        return minutes
            .checked_mul(60)
            .and_then(|whole| whole.checked_add(seconds))
            .filter(|total| *total <= crate::response::MAX_RETRY_AFTER.as_secs())
            .map(Duration::from_secs);
    }
    None
}

fn count_before(word: &str, unit: char) -> Option<u64> {
    let digits = word.trim_end_matches(['.', ',']).strip_suffix(unit)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn disabled_by(message: &str) -> Option<DisabledBy> {
    let message = message.to_ascii_lowercase();
    // Of "{tenant admin | service admin}" the message names one; a text with both is the documentation's own sentence.
    match (message.contains("tenant admin"), message.contains("service admin")) {
        (true, false) => Some(DisabledBy::TenantAdmin),
        (false, true) => Some(DisabledBy::ServiceAdmin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_throttles_wait_is_read_out_of_its_prose() {
        let cases = [
            ("Too many frequent subscription start requests. Please retry again after 8m 46s.", Some(526)),
            ("retry after 14m 56s", Some(896)),
            ("retry after 0m 0s.", Some(0)),
            ("retry after 1440m 0s", Some(86_400)),
            ("retry after 1440m 1s", None),
            ("retry after 99999999999999999999m 1s", None),
            ("retry after m s", None),
            ("retry later", None),
            ("8m later 46s", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(wait_in_prose(text), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn every_step_names_the_problem_and_the_remedy() {
        for step in [AdminStep::EnableAuditing, AdminStep::GrantPermission, AdminStep::AskMicrosoft] {
            let text = step.to_string();
            assert!(text.contains(": ") && !text.ends_with('.') && !text.contains("  "), "{text}");
        }
    }
}
