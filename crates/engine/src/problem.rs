//! What can stand in the way, each with a stable word, the operator's sentence and the step that mends it.
//!
//! Never a secret, a token or a URL's query: a problem is shown on pages and printed on terminals. The texts about
//! Microsoft's side are `protocol`'s own.

use protocol::entra::{AppStep, EntraDisposition};
use protocol::error::{AdminStep, BackOffCause, ConfigurationFault, Disposition};
use protocol::time::Timestamp;

use crate::model::Problem;

/// The kinds of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// Something for the tenant's admin.
    Admin(AdminStep),
    /// Something for the operator, about the app: the same for all tenants.
    App(AppStep),
    /// The service throttles the tenant for longer than a moment.
    Throttled,
    /// Microsoft's service answers with faults of its own.
    ServiceDown,
    /// No answer at all.
    Unreachable,
    /// The subscription is not enabled, and a start is on its way or has to wait.
    SubscriptionMissing,
    /// Microsoft or an admin switched the subscription off.
    SubscriptionDisabled,
    /// A content type is configured that the service does not have.
    UnknownContentType,
    /// This machine's clock does not agree with Microsoft's.
    ClockWrong,
    /// An answer nobody has described.
    UnknownAnswer,
    /// A request of ours that was wrong.
    OurFault,
    /// Another process holds the ledger.
    LedgerLocked,
    /// The server of a shared ledger cannot be reached.
    LedgerUnreachable,
    /// The ledger's file is damaged or cannot be used.
    LedgerUnusable,
    /// No space for the ledger or the archive.
    DiskFull,
    /// The archive's store does not take files.
    ArchiveUnavailable,
}

impl ProblemKind {
    /// Every kind, for documentation and tests.
    pub const ALL: [ProblemKind; 34] = [
        Self::Admin(AdminStep::EnableAuditing),
        Self::Admin(AdminStep::GrantPermission),
        Self::Admin(AdminStep::GiveConsent),
        Self::Admin(AdminStep::AllowApp),
        Self::Admin(AdminStep::AllowNetwork),
        Self::Admin(AdminStep::CheckTenant),
        Self::Admin(AdminStep::CheckCloud),
        Self::Admin(AdminStep::SubscribeToOffice365),
        Self::Admin(AdminStep::AskMicrosoft),
        Self::App(AppStep::CorrectSecret),
        Self::App(AppStep::RenewSecret),
        Self::App(AppStep::CheckCredential),
        Self::App(AppStep::UploadCertificate),
        Self::App(AppStep::RotateCertificate),
        Self::App(AppStep::CheckClock),
        Self::App(AppStep::FixFederation),
        Self::App(AppStep::ProvideAssertion),
        Self::App(AppStep::FixRegistration),
        Self::App(AppStep::MakeMultitenant),
        Self::App(AppStep::FixCloud),
        Self::Throttled,
        Self::ServiceDown,
        Self::Unreachable,
        Self::SubscriptionMissing,
        Self::SubscriptionDisabled,
        Self::UnknownContentType,
        Self::ClockWrong,
        Self::UnknownAnswer,
        Self::OurFault,
        Self::LedgerLocked,
        Self::LedgerUnreachable,
        Self::LedgerUnusable,
        Self::DiskFull,
        Self::ArchiveUnavailable,
    ];

    /// The word for machines. Never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin(step) => admin_word(step),
            Self::App(step) => app_word(step),
            Self::Throttled => "throttled",
            Self::ServiceDown => "service_down",
            Self::Unreachable => "unreachable",
            Self::SubscriptionMissing => "subscription_missing",
            Self::SubscriptionDisabled => "subscription_disabled",
            Self::UnknownContentType => "unknown_content_type",
            Self::ClockWrong => "clock_wrong",
            Self::UnknownAnswer => "unknown_answer",
            Self::OurFault => "our_fault",
            Self::LedgerLocked => "ledger_locked",
            Self::LedgerUnreachable => "ledger_unreachable",
            Self::LedgerUnusable => "ledger_unusable",
            Self::DiskFull => "disk_full",
            Self::ArchiveUnavailable => "archive_unavailable",
        }
    }

    /// What is wrong, in the operator's words; a fragment without a full stop.
    pub fn problem(self) -> &'static str {
        match self {
            Self::Admin(step) => step.problem(),
            Self::App(step) => step.problem(),
            Self::Throttled => "Microsoft throttles this tenant's requests",
            Self::ServiceDown => "Microsoft's service answers with faults of its own",
            Self::Unreachable => "Microsoft's service does not answer",
            Self::SubscriptionMissing => "the subscription is not enabled yet",
            Self::SubscriptionDisabled => "the subscription was switched off by an admin of the tenant or by Microsoft",
            Self::UnknownContentType => "the service does not have this content type",
            Self::ClockWrong => "this machine's clock does not agree with Microsoft's",
            Self::UnknownAnswer => "the service answered with an error that is not in the table",
            Self::OurFault => "the service refused the form of a request",
            Self::LedgerLocked => "another process holds the ledger",
            Self::LedgerUnreachable => "the ledger's database cannot be reached",
            Self::LedgerUnusable => "the ledger cannot be used",
            Self::DiskFull => "no space is left for the ledger or the archive",
            Self::ArchiveUnavailable => "the archive does not take files",
        }
    }

    /// The step that mends it; a sentence without a full stop.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Admin(step) => step.remedy(),
            Self::App(step) => step.remedy(),
            Self::Throttled => {
                "nothing to do: it goes on slower by itself; if it stays, lower collect.requests_per_minute or ask \
                 Microsoft for a higher quota"
            }
            Self::ServiceDown => "nothing to do: it is retried by itself, for days if need be",
            Self::Unreachable => {
                "check the network, the proxy, DNS and the firewall between here and the cloud's hosts"
            }
            Self::SubscriptionMissing => {
                "nothing to do: it is started by itself; Microsoft allows a start every 15 minutes"
            }
            Self::SubscriptionDisabled => {
                "it is started again by itself; if that repeats, ask the tenant's admin who stops it"
            }
            Self::UnknownContentType => "correct collect.content_types",
            Self::ClockWrong => "set this machine's clock by NTP",
            Self::UnknownAnswer => "it is retried by itself; please report the answer if it stays",
            Self::OurFault => "please report this with the message",
            Self::LedgerLocked => {
                "it goes on once that process has finished; look for a second tenantry or a backup that runs"
            }
            Self::LedgerUnreachable => {
                "see that the PostgreSQL server of ledger.url runs and lets this machine in: it goes on by itself"
            }
            Self::LedgerUnusable => "look at the message; the archive is not affected",
            Self::DiskFull => "free some space: it goes on by itself and nothing is lost within seven days",
            Self::ArchiveUnavailable => "check archive.url, its permissions and its network: it goes on by itself",
        }
    }

    /// Whether it passes without anybody doing something.
    pub fn passes_by_itself(self) -> bool {
        match self {
            Self::Throttled | Self::ServiceDown | Self::SubscriptionMissing | Self::LedgerLocked => true,
            Self::Admin(_)
            | Self::App(_)
            | Self::Unreachable
            | Self::SubscriptionDisabled
            | Self::UnknownContentType
            | Self::ClockWrong
            | Self::UnknownAnswer
            | Self::OurFault
            | Self::LedgerUnreachable
            | Self::LedgerUnusable
            | Self::DiskFull
            | Self::ArchiveUnavailable => false,
        }
    }

    /// The problem as it is kept and shown: what is wrong, the error itself if there is more to say, and the remedy.
    /// `before` is what stood there: the same kind has stood in the way since then.
    pub fn stands_in_the_way(
        self,
        detail: Option<&str>,
        before: Option<&Problem>,
        now: Timestamp,
        next_attempt_at: Option<Timestamp>,
    ) -> Problem {
        let (problem, remedy) = (self.problem(), self.remedy());
        // Errors that know their remedy bring it along, and some begin as the problem does; nothing is said twice.
        let detail = detail.map(str::trim).unwrap_or_default();
        let detail = detail.strip_suffix(remedy).map_or(detail, |rest| rest.trim_end_matches([':', ' ']));
        let message = if detail.is_empty() {
            format!("{problem}: {remedy}")
        } else if detail.starts_with(problem) {
            format!("{detail}: {remedy}")
        } else {
            format!("{problem} ({detail}): {remedy}")
        };
        let since = before.filter(|before| before.kind == self.as_str()).map_or(now, |before| before.since.min(now));
        Problem { kind: self.as_str().to_owned(), message, since, next_attempt_at }
    }

    /// What an answer of the Activity API stands for when it is looked at once, by an operator.
    pub fn of_api_error(disposition: Disposition) -> Self {
        match disposition {
            Disposition::RetryAfter { cause, .. } | Disposition::BackOff { cause } => match cause {
                BackOffCause::Throttled => Self::Throttled,
                BackOffCause::ServiceFault => Self::ServiceDown,
            },
            Disposition::NewToken { if_repeated: step } | Disposition::NeedsTenantAdmin(step) => Self::Admin(step),
            Disposition::StartLater(_) | Disposition::NotSubscribed { disabled_by: None } => Self::SubscriptionMissing,
            Disposition::NotSubscribed { disabled_by: Some(_) } => Self::SubscriptionDisabled,
            Disposition::RestartWindow => Self::ServiceDown,
            Disposition::ReclampWindow => Self::ClockWrong,
            Disposition::FixConfiguration(ConfigurationFault::ContentType) => Self::UnknownContentType,
            Disposition::AlreadyEnabled
            | Disposition::WebhookRefused(_)
            | Disposition::Gone(_)
            | Disposition::RetrySlowly => Self::UnknownAnswer,
            Disposition::Bug => Self::OurFault,
        }
    }

    /// What keeps a tenant from having a token.
    pub fn of_token_error(disposition: EntraDisposition) -> Self {
        match disposition {
            EntraDisposition::NeedsTenantAdmin(step) => Self::Admin(step),
            EntraDisposition::StopApp(step) | EntraDisposition::NewAssertion { if_repeated: step } => Self::App(step),
            EntraDisposition::RetryAfter { cause, .. } | EntraDisposition::BackOff { cause } => match cause {
                BackOffCause::Throttled => Self::Throttled,
                BackOffCause::ServiceFault => Self::ServiceDown,
            },
            EntraDisposition::ConsentFailed(_) => Self::Admin(AdminStep::GiveConsent),
            EntraDisposition::RetrySlowly => Self::UnknownAnswer,
            EntraDisposition::Bug => Self::OurFault,
        }
    }
}

fn admin_word(step: AdminStep) -> &'static str {
    match step {
        AdminStep::EnableAuditing => "auditing_off",
        AdminStep::GrantPermission => "permission_missing",
        AdminStep::GiveConsent => "consent_missing",
        AdminStep::AllowApp => "app_disabled",
        AdminStep::AllowNetwork => "conditional_access",
        AdminStep::CheckTenant => "tenant_unknown",
        AdminStep::CheckCloud => "wrong_cloud",
        AdminStep::SubscribeToOffice365 => "no_office_365",
        AdminStep::AskMicrosoft => "tenant_misconfigured",
    }
}

fn app_word(step: AppStep) -> &'static str {
    match step {
        AppStep::CorrectSecret => "secret_wrong",
        AppStep::RenewSecret => "secret_expired",
        AppStep::CheckCredential => "credential_refused",
        AppStep::UploadCertificate => "certificate_unknown",
        AppStep::RotateCertificate => "certificate_expired",
        AppStep::CheckClock => "assertion_time_wrong",
        AppStep::FixFederation => "federation_mismatch",
        AppStep::ProvideAssertion => "federated_token_missing",
        AppStep::FixRegistration => "registration_wrong",
        AppStep::MakeMultitenant => "app_single_tenant",
        AppStep::FixCloud => "app_wrong_cloud",
    }
}
