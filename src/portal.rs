//! The Carbon Portal client, a library of its own: which repository, which
//! object, what is known about it, and its bytes.
//!
//! Knows nothing of files, inodes or caches. The wire protocol is that of the
//! ICOS Carbon Portal's `cpauth`, `meta` and `data` services, which SITES and
//! ICOS Cities run as well.

pub mod envri;
pub mod id;

pub use envri::Envri;
pub use id::ObjectId;
