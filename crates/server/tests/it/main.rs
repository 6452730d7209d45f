//! The collector against the emulator, in one process, on paused time: what was published is compared with what is
//! archived, byte for byte.

#[cfg(test)]
mod collect;
#[cfg(test)]
mod consent;
#[cfg(test)]
mod consent_role;
#[cfg(test)]
mod console;
#[cfg(test)]
mod corrupt;
#[cfg(test)]
mod coverage;
#[cfg(test)]
mod durable;
#[cfg(test)]
mod federated;
#[cfg(test)]
mod gaps;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod isolation;
#[cfg(test)]
#[path = "../../src/logs.rs"]
mod logs;
#[cfg(test)]
mod mended;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod order;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod purges;
#[cfg(test)]
mod repeats;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod rollover;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod upkeep;
#[cfg(test)]
mod webhook;
#[cfg(test)]
mod wrong_clock;
