#![doc = include_str!("../README.md")]

pub mod belonging;
pub mod clock;
pub mod collector;
pub mod console;
pub mod coverage;
pub mod credential;
pub mod doctor;
pub mod instance;
pub mod listen;
#[cfg(test)]
mod logs;
pub mod metrics;
pub mod private_file;
pub mod residence;
pub mod safe;
pub mod settings;
pub mod site;
pub mod tls;
mod tokens;
pub mod transport;
pub mod vault;
pub mod webhook;

// The program's commands work with what these rooms define; it gets to them through this one (ARCHITECTURE.md).
pub use {archive, engine, ledger, protocol};

pub use collector::{CollectError, Collector, CollectorParts, RunReport};

/// An error and what lies beneath it, on one line: `cannot write x: no space left on device`. Printed once, where it is
/// handled.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(beneath) = source {
        let words = beneath.to_string();
        // Transparent wrappers say the same twice.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = beneath.source();
    }
    text
}
