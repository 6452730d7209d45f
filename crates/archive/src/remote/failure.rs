//! A store's refusals, each as one line of what happened and what the operator can do about it.
//!
//! Never passes on what a store or a client wrote as it is: answers are pages of XML, and addresses may carry signatures.

use std::error::Error as _;
use std::fmt;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// What happened, in one line.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// What stands in the way, and its remedy.
pub(super) fn explain(error: &Error) -> (Refusal, &'static str) {
    let text = error.to_string();
    let status = after(&text, "status code: ").filter(|status| status.starts_with(|c: char| c.is_ascii_digit()));
    let code = between(&text, "<Code>", "</Code>");
    let answered = match (status, code) {
        (Some(status), Some(code)) => format!("the store answered {status} ({code})"),
        (Some(status), None) => format!("the store answered {status}"),
        (None, Some(code)) => format!("the store answered {code}"),
        (None, None) => String::new(),
    };
    if names_no_bucket(error) {
        let remedy = "create the bucket or container, or correct [archive] url; collection goes on by itself";
        return (Refusal(or(answered, "it is not there")), remedy);
    }
    let (happened, remedy) = match error {
        Error::PermissionDenied { .. } => (
            "the store refused",
            "give the credentials in use read, write, delete and list access below [archive] url, and check the clock",
        ),
        Error::Unauthenticated { .. } => (
            "the store does not accept the credentials",
            "check the store's credentials: AWS_*, AZURE_* or GOOGLE_* variables, or archive.credentials_file",
        ),
        Error::NotFound { .. } => ("it is not there", "it was there before: restore it from a copy or a version"),
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            ("the store cannot do this", "use a store that takes conditional writes, or see the reference of [archive]")
        }
        _ => return of_connection(error, answered),
    };
    (Refusal(or(answered, happened)), remedy)
}

fn of_connection(error: &Error, answered: String) -> (Refusal, &'static str) {
    const WAIT: &str = "see whether the store is up and reachable from here; collection goes on by itself";
    if !answered.is_empty() {
        return (Refusal(answered), WAIT);
    }
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            let happened = match http.kind() {
                HttpErrorKind::Timeout => "it did not answer in time",
                HttpErrorKind::Connect => {
                    let remedy = "check [archive] url and endpoint, the network, a proxy's variables and the trust \
                                  store (SSL_CERT_FILE); collection goes on by itself";
                    return (Refusal(format!("it cannot be reached ({})", innermost(http))), remedy);
                }
                _ => "the connection broke off",
            };
            return (Refusal(happened.to_owned()), WAIT);
        }
        next = cause.source();
    }
    let text = error.to_string();
    if text.contains("redential") || text.contains("metadata") || text.contains("169.254.169.254") {
        let remedy = "give the store's credentials: AWS_*, AZURE_* or GOOGLE_* variables, or archive.credentials_file";
        return (Refusal("no usable credentials were found".to_owned()), remedy);
    }
    (Refusal(innermost(error)), WAIT)
}

/// Whether the request may have been carried out all the same: no answer came.
pub(super) fn is_cut_off(error: &Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            let kind = http.kind();
            return matches!(kind, HttpErrorKind::Timeout | HttpErrorKind::Interrupted | HttpErrorKind::Unknown);
        }
        next = cause.source();
    }
    false
}

/// Whether it is the bucket that is missing, and not an object in it.
pub(super) fn names_no_bucket(error: &Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|name| text.contains(name))
}

/// The last cause, which is the operating system's or the peer's, in one line.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let line = last.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    // Addresses may carry signatures.
    line.split(' ').map(|word| word.split_once('?').map_or(word, |(word, _)| word)).collect::<Vec<_>>().join(" ")
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(mark)?;
    rest.split([':', '\n']).next().map(str::trim)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner).filter(|inner| inner.len() < 64)
}

fn or(told: String, otherwise: &str) -> String {
    if told.is_empty() { otherwise.to_owned() } else { told }
}
