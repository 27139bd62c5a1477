//! icosfs as its users use it: real mounts of the demo portal, which speaks the
//! real protocol over loopback.

mod support;

mod book;
mod browsing;
mod caching;
mod clock;
mod credentials;
mod demo;
mod direct;
mod faults;
mod get;
mod hostile;
mod hygiene;
mod keeping;
mod kernel;
mod login;
mod looking;
mod machine;
mod model;
mod mounting;
mod originals;
mod outages;
mod providers;
mod python;
mod reading;
mod settings;
#[cfg(feature = "shared-tests")]
mod shared_rdf;
mod surviving;
mod tables;
#[cfg(feature = "shared-tests")]
mod tree;
mod verified;
mod waiting;
