//! The collector against the emulator, in one process, on paused time: what was published is compared with what is
//! archived, byte for byte.

mod collect;
mod durable;
mod restart;
mod rig;
mod serve;
mod trouble;
