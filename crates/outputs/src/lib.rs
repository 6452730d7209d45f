//! Where records go after the archive: one file per destination, one contract for all. No destination is built yet; the
//! archive keeps every record with its commit number, so an output that comes later starts at any commit it likes.
//!
//! Never reads anything but the archive.
