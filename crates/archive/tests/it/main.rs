//! The archive from outside: what goes in comes out once and byte for byte, whatever happens in between.
//!
//! Never looks inside the crate: everything goes through its public functions and the files it leaves.

#[cfg(test)]
mod commits;
#[cfg(test)]
mod damage;
#[cfg(all(feature = "remote", feature = "query"))]
#[cfg(test)]
mod emulated;
#[cfg(all(feature = "remote", feature = "query"))]
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod epochs;
#[cfg(all(feature = "remote", feature = "query"))]
#[cfg(test)]
mod google;
#[cfg(test)]
mod histories;
#[cfg(all(feature = "remote", feature = "query"))]
#[cfg(test)]
mod look;
#[cfg(test)]
mod merges;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod purges;
#[cfg(test)]
mod recorded;
#[cfg(all(feature = "remote", feature = "query"))]
#[cfg(test)]
mod servers;
#[cfg(feature = "query")]
#[cfg(test)]
mod sql;
#[cfg(all(feature = "remote", feature = "query"))]
#[cfg(test)]
mod stores;
#[cfg(test)]
mod world;
