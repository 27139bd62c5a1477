//! What every process that serves a repository has, whether by a mount or over HTTP:
//! the bytes of nodes, counters and failures, refreshes, and the closing of idle files.
//!
//! `mount` and `serve` are two front ends over this module: they translate requests and
//! errors, and have no logic of their own about names or bytes.

pub(crate) mod idle;
pub(crate) mod node_reader;
pub(crate) mod refresh;
pub mod report;

pub use report::{DaemonInfo, DaemonReport, FrontEnd, Operation, ServerAddress};
