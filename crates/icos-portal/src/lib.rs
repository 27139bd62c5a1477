//! A client for the ICOS Carbon Portal and for the repositories that run the
//! same software, SITES and ICOS Cities: login, metadata and data.
//!
//! | to | use |
//! |---|---|
//! | choose a repository and the URLs of its services | [`Envri`], [`Services`] |
//! | log in and create clients in one step | [`Bootstrap`] |
//! | provide and renew login tokens | [`auth::TokenProvider`] and its implementations |
//! | list objects, stations, data types and collections | [`MetadataClient`] |
//! | read the landing page of an object | [`MetadataClient::landing_json`], [`landing::Landing`] |
//! | download originals, columns of tables and CSV | [`DataClient`] |
//! | list and read the entries of ZIP archives | [`archive`] |
//! | check the login and the data licence | [`Account`] |
//!
//! Metadata needs no login. Most data needs one, and the owner of the account
//! must have accepted the data licence. The example `read_columns` logs in,
//! finds the columns of a table and downloads one of them:
//!
//! ```text
//! cargo run -p icos-portal --example read_columns -- <object id>
//! ```
//!
//! Names and URLs need no network:
//!
//! ```
//! use icos_portal::{Envri, ObjectId, Service, Services};
//!
//! let services = Services::of(Envri::Icos);
//! let id: ObjectId = "UNhY4JhezH9gQYqvDMWrWH9C".parse()?;
//! assert_eq!(
//!     services.url(Service::Data, &["objects", &id.to_string()]).as_str(),
//!     "https://data.icos-cp.eu/objects/UNhY4JhezH9gQYqvDMWrWH9C"
//! );
//! # Ok::<(), icos_portal::id::BadObjectId>(())
//! ```
//!
//! # Rules
//!
//! - Credentials are sent to the authentication service only, the token only
//!   to the authentication and data services. Metadata requests carry neither.
//! - Every request has a deadline, is retried a bounded number of times, and
//!   fails at once while its service is known to be down ([`http`]).
//! - The portal counts every data request as a download: prefer few, large
//!   requests.
//! - Responses are untrusted input. Texts from the portal that reach an error
//!   message contain no control characters.
//!
//! The crate reads and writes login files and no others. It knows nothing of
//! filesystems and caches. All clients need a tokio runtime.
//!
//! The protocol is that of the portal's `cpauth`, `meta` and `data` services;
//! constants and file formats are those of the Python library `icoscp_core`,
//! so that both share one login.

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
mod redaction;
pub mod services;
pub mod sparql;
pub mod traffic;
pub mod usage_reporter;

pub use account::Account;
pub use bootstrap::Bootstrap;
pub use data::DataClient;
pub use envri::Envri;
pub use error::{PortalError, is_terminal_command};
pub use id::ObjectId;
pub use meta::{MetadataClient, SharedAnswers};
pub use redaction::{foreign_text, remember as remember_secret};
pub use services::{Service, Services};
pub use usage_reporter::UsageReporter;
