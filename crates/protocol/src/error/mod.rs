//! What the Activity API answered instead of what it was asked for.
//!
//! Never decides: an [`ApiError`] says by [`ApiError::disposition`] what kind of trouble it is, and the engine matches on
//! that. Kept apart, as they mend differently: *the server answered with an error*, and *the answer cannot be read* (which
//! keeps an excerpt of the offending bytes). That a request never completed is the transport's error, not one of these.
//!
//! Source: <https://learn.microsoft.com/en-us/office/office-365-management-api/office-365-management-activity-api-reference#errors>

mod body;
mod disposition;

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::redact::redact;
use crate::response::Response;
use crate::text::{decode, one_line};
use crate::time::Timestamp;

pub(crate) use body::{ErrorText, error_object, member, read_error_body};
pub use disposition::{
    AdminStep, BackOffCause, Concern, ConfigurationFault, DisabledBy, Disposition, Loss, START_THROTTLE, WebhookFault,
};

/// The longest message kept of an error, in characters.
pub const MAX_MESSAGE: usize = 1024;
/// The longest excerpt kept of an unreadable answer, in characters.
pub const MAX_EXCERPT: usize = 512;

/// Which operation of the Activity API was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /subscriptions/start`
    StartSubscription,
    /// `POST /subscriptions/stop`
    StopSubscription,
    /// `GET /subscriptions/list`
    ListSubscriptions,
    /// `GET /subscriptions/content`
    ListContent,
    /// `GET {contentUri}`
    RetrieveContent,
    /// `GET /subscriptions/notifications`
    ListNotifications,
    /// `GET /resources/dlpSensitiveTypes`
    ResourceFriendlyNames,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 7] = [
        Self::StartSubscription,
        Self::StopSubscription,
        Self::ListSubscriptions,
        Self::ListContent,
        Self::RetrieveContent,
        Self::ListNotifications,
        Self::ResourceFriendlyNames,
    ];

    /// The name used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StartSubscription => "start_subscription",
            Self::StopSubscription => "stop_subscription",
            Self::ListSubscriptions => "list_subscriptions",
            Self::ListContent => "list_content",
            Self::RetrieveContent => "retrieve_content",
            Self::ListNotifications => "list_notifications",
            Self::ResourceFriendlyNames => "resource_friendly_names",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation of the Activity API that did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server answered with an error.
    #[error(transparent)]
    Answered(Box<ErrorAnswer>),
    /// The server said yes, and what it sent cannot be read.
    #[error(transparent)]
    Unreadable(Box<UnreadableAnswer>),
}

/// An error the server put into words, or at least into a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// What was asked for.
    pub operation: Operation,
    /// The status; 200 when the error came as an object where a list was expected (deviations D11, D18).
    pub status: StatusCode,
    /// What the body calls the error.
    pub code: ErrorCode,
    /// The body's words, on one line, at most [`MAX_MESSAGE`] characters, without anything that looks like a token. Of a
    /// code that is a sentence, both halves.
    pub message: String,
    /// The wait the server asks for.
    pub retry_after: Option<Duration>,
    /// The server's clock: AF20055 and AF20030 also come from a wrong clock on our side.
    pub server_time: Option<Timestamp>,
    /// Microsoft's id of this exchange (`mise-correlation-id`), for a support ticket.
    pub correlation_id: Option<String>,
}

impl fmt::Display for ErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was answered HTTP {}", self.operation, self.status.as_u16())?;
        if self.code != ErrorCode::None {
            write!(f, ", {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message.trim_end_matches('.'))?;
        }
        Ok(())
    }
}

impl std::error::Error for ErrorAnswer {}

/// What the body of an error calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorCode {
    /// `AF…`, by its number.
    Af(u32),
    /// `429` without `AF`: start was called too often (deviation D4).
    StartThrottled,
    /// The split exception text about a tenant that "does not exist", which means that auditing is off (deviation D5).
    TenantDoesNotExist,
    /// The 2019 text about a string reference not set: a time parameter was missing.
    MissingTimeParameter,
    /// Anything else, at most 128 characters.
    Other(String),
    /// The body has no code.
    None,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Microsoft writes AF429 with three digits and the rest with five.
            Self::Af(number) => write!(f, "AF{number}"),
            Self::StartThrottled => f.write_str("429 (start called too often)"),
            Self::TenantDoesNotExist => f.write_str("\"tenant does not exist\""),
            Self::MissingTimeParameter => f.write_str("\"string reference not set\""),
            Self::Other(text) => write!(f, "{text:?}"),
            Self::None => f.write_str("no code"),
        }
    }
}

/// An answer with a good status that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableAnswer {
    /// What was asked for.
    pub operation: Operation,
    /// The status.
    pub status: StatusCode,
    /// What is wrong with it.
    pub problem: String,
    /// The beginning of the body, on one line, at most [`MAX_EXCERPT`] characters, without anything that looks like a token.
    pub excerpt: String,
    /// How many bytes the body had.
    pub body_length: usize,
}

impl fmt::Display for UnreadableAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, status, problem, body_length, .. } = self;
        write!(f, "the answer to {operation} (HTTP {}, {body_length} bytes) cannot be read: {problem}", status.as_u16())
    }
}

impl std::error::Error for UnreadableAnswer {}

impl ApiError {
    /// The error in an answer whose status is none of success. Never fails: a body that cannot be read leaves the status.
    pub fn from_response(operation: Operation, response: &Response<'_>) -> Self {
        Self::answered(operation, response, read_error_body(response.body))
    }

    pub(crate) fn answered(operation: Operation, response: &Response<'_>, text: ErrorText) -> Self {
        let (code, message) = text.classify();
        Self::Answered(Box::new(ErrorAnswer {
            operation,
            status: response.status,
            code,
            message,
            retry_after: response.retry_after(),
            server_time: response.date(),
            correlation_id: response.header("mise-correlation-id").map(|id| one_line(id, 64)),
        }))
    }

    pub(crate) fn unreadable(operation: Operation, response: &Response<'_>, problem: impl Into<String>) -> Self {
        // Four bytes a character at most: decoding more than that would be for nothing.
        let head = response.body.get(..MAX_EXCERPT * 4).unwrap_or(response.body);
        Self::Unreadable(Box::new(UnreadableAnswer {
            operation,
            status: response.status,
            problem: problem.into(),
            excerpt: one_line(&redact(&decode(head)), MAX_EXCERPT),
            body_length: response.body.len(),
        }))
    }

    /// What was asked for.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Answered(answer) => answer.operation,
            Self::Unreadable(answer) => answer.operation,
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Answered(answer) => answer.status,
            Self::Unreadable(answer) => answer.status,
        }
    }

    /// What kind of trouble this is (activity-api.md §9).
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Answered(answer) => disposition::of_answer(answer),
            // A truncated or garbled answer: the next one may be whole.
            Self::Unreadable(_) => Disposition::BackOff { cause: BackOffCause::ServiceFault },
        }
    }

    /// How far the trouble reaches.
    pub fn concern(&self) -> Concern {
        self.disposition().concern(self.operation())
    }
}
