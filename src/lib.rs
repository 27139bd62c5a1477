//! Mounts a repository of the ICOS Carbon Portal (ICOS, SITES or ICOS Cities) as
//! plain files.
//!
//! A `read(2)` passes through the modules in the order in which they are listed
//! here. No module imports one above it.

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
