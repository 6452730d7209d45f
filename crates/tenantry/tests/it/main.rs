//! The whole program as a user has it: the real binary, over loopback, killed and mistreated, against the emulator.
#![cfg(unix)]

mod commands;
mod kill;
mod memory;
mod mistakes;
mod replay;
mod support;
