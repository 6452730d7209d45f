#![doc = include_str!("../README.md")]

mod activity;
pub mod app;
pub mod clock;
mod control;
mod emulator;
pub mod entra;
pub mod faults;
pub mod records;
mod seed;
pub mod tls;
pub mod units;
pub mod webhook;
pub mod world;

pub use activity::RequestCount;
pub use clock::EmulatorClock;
pub use emulator::{DEFAULT_SECRET, Emulator, EmulatorError, EmulatorOptions, Running, default_app};
pub use faults::FaultPlan;
pub use world::{World, WorldOptions};
