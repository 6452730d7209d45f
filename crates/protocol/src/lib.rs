#![doc = include_str!("../README.md")]

pub mod cloud;
pub mod ids;
pub mod secret;
pub mod time;
