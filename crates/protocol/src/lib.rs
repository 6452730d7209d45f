#![doc = include_str!("../README.md")]

pub mod activity;
pub mod cloud;
pub mod consent;
pub mod entra;
pub mod error;
pub mod ids;
pub mod registration;
pub mod request;
pub mod response;
pub mod secret;
pub mod tenant_metadata;
pub mod time;
pub mod token;

mod redact;
mod text;
