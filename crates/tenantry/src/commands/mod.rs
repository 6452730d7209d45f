//! One file per command, and what they share: how the configuration, the ledger and the archive are opened.
//!
//! Never decides anything about collection: commands read, ask, and print.

pub(crate) mod activity;
pub(crate) mod archive;
pub(crate) mod certificate;
pub(crate) mod collect;
pub(crate) mod config;
pub(crate) mod consent_link;
pub(crate) mod coverage;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod emulate;
pub(crate) mod init;
pub(crate) mod ledger;
pub(crate) mod offboard;
#[cfg(feature = "query")]
mod out_file;
#[cfg(feature = "query")]
pub(crate) mod query;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod subscription;
pub(crate) mod tenant;
mod vacuum;

use crate::cli::Global;
use crate::config::Config;
use crate::exit::Failure;

/// The configuration in force for this command line.
pub(crate) fn load(global: &Global) -> Result<Config, Failure> {
    Ok(Config::load(global.config.as_deref(), global.data_dir.as_deref(), std::env::vars())?)
}
