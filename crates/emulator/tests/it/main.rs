//! The emulator from outside: through its router, with a small client that shares nothing with the collector's.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test that calls them")]

mod client;
mod content;
mod control;
mod faults;
mod gate;
mod notifications;
mod records;
mod repeat;
mod strangers;
mod subscriptions;
mod truth;
mod wire;
