//! Mounts a Carbon Portal repository (ICOS, SITES or ICOS Cities) as plain
//! files, and is the client library beneath.
//!
//! Modules are listed as the way of one `read(2)` leads through them; none
//! knows of one above it.

mod allocator;
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod content;
#[cfg(feature = "demo")]
pub mod demo;
mod flight;
#[doc(hidden)]
pub mod fuzzing;
pub mod memory;
pub mod mount;
pub mod portal;
mod sync;
pub mod table;
pub mod tree;
