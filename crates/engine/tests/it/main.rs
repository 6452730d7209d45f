//! The engine's decisions, held to what they promise: examples, both sides of every limit, and random histories.
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the finding")]

mod coverage;
mod credential;
mod hindrance;
mod history;
mod lease;
mod pacing;
mod problem;
mod retention;
mod retry;
mod silence;
mod skew;
mod subscription;
mod tile;
mod token;
mod unconfirmed;
mod webhook;

use chrono::TimeDelta;
use engine::model::Jitter;
use protocol::time::{Timestamp, parse_timestamp};

/// Noon of a Wednesday; on the grid.
pub(crate) const NOON: &str = "2026-03-04T12:00:00Z";

pub(crate) fn at(text: &str) -> Timestamp {
    parse_timestamp(text).unwrap()
}

pub(crate) fn noon() -> Timestamp {
    at(NOON)
}

pub(crate) fn hours(hours: i64) -> TimeDelta {
    TimeDelta::hours(hours)
}

pub(crate) fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

pub(crate) fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

/// No spread at all, for tests that name exact times.
pub(crate) const STILL: Jitter = Jitter { seed: 0, percent: 0 };
