//! icosfs as its users meet it: real mounts of the demo portal, which speaks
//! the real protocol over loopback.

mod support;

mod book;
mod browsing;
mod caching;
mod credentials;
mod demo;
mod direct;
mod faults;
mod get;
mod hygiene;
mod login;
mod looking;
mod machine;
mod mounting;
mod providers;
mod python;
mod reading;
mod settings;
#[cfg(feature = "shared-tests")]
mod shared_rdf;
mod tables;
#[cfg(feature = "shared-tests")]
mod tree;
