//! A demo portal: the ICOS Carbon Portal's wire protocol on loopback.
//!
//! Three HTTP services (auth, meta, data) reproduce the real services,
//! including their defects. They serve a [`DemoRepository`]: metadata as RDF, which
//! a SPARQL engine queries, and file contents that match it. A fourth service
//! lets another process request faults. The portal is for trying icosfs out,
//! for workshops, and for tests.
//!
//! The demo shares only [`icos_portal::ObjectId`] and [`icos_portal::Envri`]
//! with the client under test. It computes everything else, such as the text of
//! numbers in CSV files, with code of its own, so that the tests compare two
//! implementations.
//!
//! Each module imports only modules below it in this list:
//!
//! 1. `portal` starts the services and answers each request by way of `auth`,
//!    `meta`, `data` and `control`.
//! 2. `state` is what these services share: the repository, the user, the
//!    request record, quotas and faults.
//! 3. `builtin`, `benchmark` and `rdf` make a `repository`.
//! 4. `sparql` and `landing` read its metadata; `table`, `cells` and `content`
//!    compute its contents.
//! 5. `faults`, `record`, `http` and `server` handle requests and connections.

mod account;
mod auth;
mod benchmark;
mod builtin;
mod cells;
mod content;
mod control;
mod data;
mod definition;
mod error;
mod faults;
mod geo;
mod graph;
mod http;
mod landing;
mod meta;
mod number;
mod object;
mod portal;
mod random;
mod rdf;
mod record;
mod repository;
mod server;
mod service;
mod sparql;
mod state;
mod table;
mod token;
mod values;
mod vocabulary;

pub use self::error::DemoError;
pub use self::faults::{Fault, FaultPlan, FaultRule};
pub use self::portal::DemoPortal;
pub use self::record::{RecordedRequest, RequestCallback};
pub use self::repository::DemoRepository;
pub use self::service::DemoService;
pub use self::sparql::SparqlLimits;
pub use self::state::DemoOptions;

#[cfg(test)]
mod tests;
