//! The demo portal over the wire: each test cites the section of the protocol
//! page (or the behaviour of the services' public source) that it holds to.

mod auth;
mod data;
mod download;
mod drawing;
mod faults;
mod meta;
mod pairs;
mod quota;
#[cfg(feature = "shared-tests")]
mod rdf;
mod record;
mod support;
