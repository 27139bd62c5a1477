//! Mounts a Carbon Portal repository (ICOS, SITES or ICOS Cities) as plain
//! files, and is the client library beneath.
//!
//! Modules are listed as the way of one `read(2)` leads through them; none
//! knows of one above it.

#[cfg(feature = "demo")]
pub mod demo;
pub mod portal;
