//! SQL over segments that the real writer made.

mod answers;
mod fixture;
mod formats;
mod json;
mod pruning;
mod refusals;
