//! The emulator from outside: through its router, with a small client that shares nothing with the collector's.

mod client;
mod truth;
