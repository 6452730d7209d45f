//! The archive from outside: what goes in comes out once and byte for byte, whatever happens in between.
//!
//! Never looks inside the crate: everything goes through its public functions and the files it leaves.

#[cfg(test)]
mod commits;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod merges;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod recorded;
#[cfg(feature = "query")]
#[cfg(test)]
mod sql;
#[cfg(test)]
mod world;
