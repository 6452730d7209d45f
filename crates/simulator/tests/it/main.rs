//! The simulator held to its own promises, and seeds that once found something.

#[cfg(test)]
mod fleet;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod shared;
