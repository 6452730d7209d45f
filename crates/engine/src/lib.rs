#![doc = include_str!("../README.md")]

pub mod coverage;
pub mod model;
pub mod tile;
