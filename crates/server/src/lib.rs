#![doc = include_str!("../README.md")]

pub mod clock;
pub mod collector;
pub mod credential;
pub mod instance;
pub mod metrics;
pub mod settings;
pub mod transport;

pub use collector::{CollectError, Collector, CollectorParts, RunReport};
