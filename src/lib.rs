//! Mounts a repository of the ICOS Carbon Portal (ICOS, SITES or ICOS Cities) as
//! plain files.
//!
//! The modules are layers, listed from top to bottom: no module imports one above
//! it. A `read(2)` passes through `mount`, `content` and `cache`.

pub mod cli;

pub mod mount;

pub mod serve;

pub mod daemon;

pub mod tree;

mod plot;

pub mod content;

pub mod catalog;

pub mod cache;
pub mod cluster;
pub mod memory;

mod allocator;
pub mod citation;
#[cfg(any(test, feature = "demo"))]
#[doc(hidden)]
pub mod demo_portal;
#[doc(hidden)]
pub mod fuzzing;
mod process;
