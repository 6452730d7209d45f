//! The whole program as a user has it: the real binary, over loopback, killed and mistreated, against the emulator.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends loudly")]

mod certificate;
mod clouds;
mod commands;
mod doctor;
mod init;
mod kill;
mod memory;
mod mistakes;
#[cfg(test)]
mod object_storage;
mod offboarding;
mod proxy;
mod public;
mod replay;
mod restored;
mod secrets;
mod serving;
mod shared_ledger;
mod signals;
#[cfg(test)]
mod stores;
mod support;
mod webhook;
mod workers;
