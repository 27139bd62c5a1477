//! Mounts a repository of the ICOS Carbon Portal (ICOS, SITES or ICOS Cities) as
//! plain files.
//!
//! The modules are listed in the order in which a `read(2)` passes through them;
//! none imports one above it.

pub mod cli;

pub mod mount;

pub mod tree;

pub mod content;

pub mod catalog;

pub mod cache;
pub mod memory;

mod allocator;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod test_portal;
