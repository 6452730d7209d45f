//! How the program ends: a failure has one sentence and an exit code that scripts can rely on.
//!
//! Never decides what went wrong: the rooms below say it in their errors, and here it is only given its code.

use std::fmt;
use std::process::ExitCode;

/// The documented exit codes. 0 is success, 2 is clap's for a command line it cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something no other code describes; a bug if it persists.
    Other = 1,
    /// The command line cannot be carried out as written: a malformed id, a bad query.
    Usage = 2,
    /// The configuration is missing or wrong.
    Config = 3,
    /// The other side refused us: a wrong secret, missing consent or permission, a wrong cloud.
    Refused = 4,
    /// It ran, and something is not complete: contents failing or lost, or a requirement not met.
    Incomplete = 5,
    /// Local storage: full disk, unwritable folder, corrupt ledger or segment.
    Storage = 6,
    /// Another instance holds the data folder, or the address.
    Busy = 7,
}

/// A failure as the operator sees it: one sentence that names the thing and the remedy.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// With the whole chain of causes in the sentence.
    pub(crate) fn from_chain(code: Code, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self { code, message }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Code::Config, error)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
