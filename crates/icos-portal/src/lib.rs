//! The Carbon Portal client, a library of its own: which repository, which
//! object, what is known about it, and its bytes.
//!
//! Knows nothing of files, inodes or caches. The wire protocol is that of the
//! ICOS Carbon Portal's `cpauth`, `meta` and `data` services, which SITES and
//! ICOS Cities run as well.
//!
//! Credentials go to the authentication service alone, the cookie to it and to
//! the data service; metadata requests never carry either.

pub mod account;
pub mod archive;
pub mod auth;
pub mod bootstrap;
pub mod data;
pub mod envri;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod id;
pub mod landing;
pub mod lists;
pub mod meta;
pub mod probe;
pub mod services;
pub mod sparql;
pub mod traffic;
pub mod usage_reporter;

pub use account::Account;
pub use bootstrap::Bootstrap;
pub use data::DataClient;
pub use envri::Envri;
pub use error::PortalError;
pub use id::ObjectId;
pub use meta::MetadataClient;
pub use services::{Service, Services};
pub use usage_reporter::UsageReporter;
