#![doc = include_str!("../README.md")]

pub mod checkup;
pub mod consent;
pub mod coverage;
pub mod credential;
pub mod hindrance;
pub mod model;
pub mod pacing;
pub mod problem;
pub mod retention;
pub mod retry;
pub mod silence;
pub mod skew;
pub mod subscription;
pub mod tile;
pub mod token;
pub mod webhook;
