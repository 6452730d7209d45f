//! What our failures are in the engine's words.
//!
//! Never decides: it translates, and the engine says what follows.

use archive::ArchiveError;
use engine::model::Jitter;
use engine::problem::ProblemKind;
use engine::retry::Trouble;
use ledger::LedgerError;
use protocol::ids::TenantId;
use record::SplitError;

use super::committer::CommitFailure;
use super::feed::Failure;
use super::fetch::FetchFailure;
use super::listing::ListFailure;
use crate::tokens::TokenFailure;
use crate::transport::TransportError;

/// What kind of trouble a failure is, or whose it is instead.
pub(super) enum Judged {
    /// The engine's to decide about.
    Trouble(Trouble),
    /// There is no token; the token manager knows until when.
    NoToken(TokenFailure),
    /// Our own: ledger or commit.
    Ours,
}

pub(super) fn of_request(failure: &Failure) -> Judged {
    Judged::Trouble(match failure {
        Failure::Token(failure) => return Judged::NoToken(failure.clone()),
        Failure::Transport(error) => of_transport(error),
        Failure::Api { refused_again: Some(step), .. } => Trouble::RefusedAgain(*step),
        Failure::Api { error, refused_again: None } => Trouble::Answered(error.disposition()),
        Failure::Refused(_) => Trouble::RefusedUrl,
    })
}

fn of_transport(error: &TransportError) -> Trouble {
    match error {
        TransportError::Connect { .. } => Trouble::NoAnswer,
        // Somebody accepted the connection, so it is this request's trouble and not everybody's.
        TransportError::Timeout { .. } | TransportError::Broken { .. } | TransportError::Corrupt { .. } => {
            Trouble::BrokenOff
        }
        TransportError::TooLarge { .. } | TransportError::Request { .. } => Trouble::NoBlob,
    }
}

pub(super) fn of_fetch(failure: &FetchFailure) -> Judged {
    Judged::Trouble(match failure {
        FetchFailure::Request(failure) => return of_request(failure),
        FetchFailure::NotABlob { error: SplitError::Unread { .. }, .. }
        | FetchFailure::Spool(_)
        | FetchFailure::CommitterGone => return Judged::Ours,
        FetchFailure::NotABlob { .. } | FetchFailure::TooLarge { .. } => Trouble::NoBlob,
        FetchFailure::TooSlow { .. } => Trouble::BrokenOff,
    })
}

pub(super) fn of_listing(failure: &ListFailure) -> Judged {
    Judged::Trouble(match failure {
        ListFailure::Request(failure) => return of_request(failure),
        ListFailure::Ledger(_) => return Judged::Ours,
        ListFailure::PagesRepeat { .. } | ListFailure::TooManyPages { .. } => Trouble::NoBlob,
    })
}

/// What stands in the way when a commit failed; `None` when nothing does and the state is simply to be read anew.
pub(super) fn kind_of_commit_failure(failure: &CommitFailure) -> Option<ProblemKind> {
    match failure {
        CommitFailure::Archive(error) if error.is_disk_full() => Some(ProblemKind::DiskFull),
        CommitFailure::Archive(_) => Some(ProblemKind::ArchiveUnavailable),
        CommitFailure::Ledger(error) => kind_of_ledger_error(error),
        CommitFailure::Thread(_) => Some(ProblemKind::OurFault),
    }
}

/// Whether a failed commit says something about this tenant's files alone.
pub(super) fn is_of_tenant(failure: &CommitFailure) -> bool {
    matches!(
        failure,
        CommitFailure::Archive(
            ArchiveError::CommitInUse { .. } | ArchiveError::Damaged { .. } | ArchiveError::Failed { .. }
        )
    )
}

/// What stands in the way when the ledger did not do as asked; `None` for a refusal.
pub(super) fn kind_of_ledger_error(error: &LedgerError) -> Option<ProblemKind> {
    if error.is_refusal() {
        None
    } else if error.is_full_disk() {
        Some(ProblemKind::DiskFull)
    } else if error.is_busy() {
        Some(ProblemKind::LedgerLocked)
    } else if error.is_unreachable() {
        Some(ProblemKind::LedgerUnreachable)
    } else {
        Some(ProblemKind::LedgerUnusable)
    }
}

/// A different spread for each tenant and each time.
pub(super) fn jitter(tenant: TenantId) -> Jitter {
    Jitter { seed: tenant.as_uuid().as_u64_pair().1 ^ fastrand::u64(..), percent: 20 }
}
