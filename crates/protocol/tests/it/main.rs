//! Wire fixtures and properties of the whole crate, through its public face only.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets something else than it expects shall end there"
)]

mod activity;
mod clouds;
mod consent;
mod entra;
mod fixtures;
mod fuzz;
mod requests;
mod robustness;
mod tokens;
mod webhook;
