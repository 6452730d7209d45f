//! The parts of a fault plan: what can be hit, what happens to it, and when.
//!
//! Never draws: whether a rule strikes is decided where its counts are, in the parent module.

use std::time::Duration;

use chrono::{DateTime, Utc};
use protocol::ids::{ContentType, TenantId};

use super::Call;

/// A call that can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `subscriptions/start`
    Start,
    /// `subscriptions/stop`
    Stop,
    /// `subscriptions/list`
    List,
    /// `subscriptions/content`
    Content,
    /// `audit/{content id}`
    Retrieve,
    /// `subscriptions/notifications`
    Notifications,
    /// `resources/dlpSensitiveTypes`
    Resources,
    /// Both token endpoints.
    Token,
    /// Both authorize endpoints.
    Authorize,
    /// Both admin consent endpoints.
    AdminConsent,
    /// OpenID metadata and keys.
    Metadata,
    /// The managed identity endpoint.
    ManagedIdentity,
    /// Anything else under the Activity API's root.
    Unknown,
}

impl Operation {
    /// As plans and statistics write them.
    pub const ALL: [(&'static str, Operation); 13] = [
        ("start", Self::Start),
        ("stop", Self::Stop),
        ("list", Self::List),
        ("content", Self::Content),
        ("retrieve", Self::Retrieve),
        ("notifications", Self::Notifications),
        ("resources", Self::Resources),
        ("token", Self::Token),
        ("authorize", Self::Authorize),
        ("admin_consent", Self::AdminConsent),
        ("metadata", Self::Metadata),
        ("managed_identity", Self::ManagedIdentity),
        ("unknown", Self::Unknown),
    ];

    /// As plans and statistics write it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, operation)| *operation == self).map_or("unknown", |(name, _)| name)
    }
}

/// The body an injected server error has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorBody {
    /// A page of the front door.
    Html,
    /// The AF50000 envelope.
    Envelope,
    /// Nothing.
    Empty,
}

/// The three forms of a refused token (activity-api.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBody {
    /// Nothing.
    Empty,
    /// `{"Message":"Authorization has been denied for this request."}`
    Message,
    /// The AF10001 envelope.
    Envelope,
}

/// How a poison blob fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoisonForm {
    /// AF50000, for good.
    ServerError,
    /// AF20050 though it was listed and has not expired (D18).
    NotFound,
    /// The body always ends early.
    Truncated,
    /// The connection is always reset.
    Reset,
    /// AF20052, though the id is as it was listed (D10).
    InvalidId,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// AF429 as the given status, 403 or 429.
    Throttle {
        /// 403 or 429.
        status: u16,
        /// Seconds in `Retry-After`.
        retry_after: Option<u32>,
        /// The pseudo-JSON with single quotes (D8).
        single_quotes: bool,
    },
    /// A server error.
    ServerError {
        /// 500 to 599, or 408.
        status: u16,
        /// Its body.
        body: ErrorBody,
    },
    /// 401 although the token is good.
    Unauthorized(RefusedBody),
    /// The connection is reset before an answer.
    Reset,
    /// The connection is closed before an answer.
    Close,
    /// The request is carried out, and the connection reset before the answer.
    LostAnswer,
    /// The body ends early.
    Truncate {
        /// After this share of it.
        share: f64,
        /// True: as if that were all. False: the connection breaks there.
        clean: bool,
    },
    /// The body comes at this many bytes per second.
    Slow(u32),
    /// The answer comes after this wait.
    Delay(Duration),
    /// 200 with an error object (D18).
    ErrorAsSuccess,
    /// 200 with nothing.
    EmptySuccess,
    /// One `contentUri` of a listing is null (D18).
    NullUri,
    /// A page of a listing is empty, and the next one is where it should have been.
    EmptyPage,
    /// A byte order mark before the body (D18).
    ByteOrderMark,
    /// A content that never works; chosen by its id, for good.
    Poison(PoisonForm),
    /// A blob with an element that is no record among good ones; chosen by its id, for good.
    NotARecord,
    /// An error of the login service by its number.
    Aadsts(u32),
}

impl Effect {
    /// Chosen once per content instead of once per request.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Poison(_) | Self::NotARecord)
    }

    fn is_for_login(&self) -> bool {
        matches!(self, Self::Aadsts(_))
    }
}

/// When a rule strikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Each time with this probability; for lasting effects, each content with this probability.
    Probability(f64),
    /// Each n-th matching request of a tenant.
    Every(u64),
    /// The first n matching requests of each tenant, operation and content type.
    First(u64),
}

/// One rule of a plan. The first one that matches and strikes decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For statistics; unique within a plan.
    pub name: String,
    /// Empty: every Activity API operation, or for errors of the login service, `token`.
    pub operations: Vec<Operation>,
    /// Empty: every tenant.
    pub tenants: Vec<TenantId>,
    /// Empty: every content type, and calls that have none.
    pub content_types: Vec<ContentType>,
    /// Strikes from this time on.
    pub from: Option<DateTime<Utc>>,
    /// Strikes until before this time.
    pub until: Option<DateTime<Utc>>,
    /// Strikes at most this often.
    pub max: Option<u64>,
    /// How it is drawn.
    pub when: When,
    /// What goes wrong.
    pub effect: Effect,
}

impl Rule {
    pub(super) fn concerns(&self, call: &Call<'_>) -> bool {
        let operation = if self.operations.is_empty() {
            match call.operation {
                Operation::Token => self.effect.is_for_login(),
                Operation::Authorize | Operation::AdminConsent | Operation::Metadata | Operation::ManagedIdentity => {
                    false
                }
                _ => !self.effect.is_for_login(),
            }
        } else {
            self.operations.contains(&call.operation)
        };
        operation
            && (self.tenants.is_empty() || call.tenant.is_some_and(|tenant| self.tenants.contains(&tenant)))
            && (self.content_types.is_empty() || call.kind.is_some_and(|kind| self.content_types.contains(kind)))
            && self.from.is_none_or(|from| call.now >= from)
            && self.until.is_none_or(|until| call.now < until)
    }
}
