//! icosfs as its users use it: real mounts of the demo portal, which speaks the
//! real protocol over loopback.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests may fail if no thread starts or nothing reads their output"
)]

mod support;

mod archives;
mod attributes;
mod book;
mod browsing;
mod cache_command;
mod caching;
mod cite;
mod clock;
mod cluster;
mod completion;
mod cost;
mod crawlers;
mod credentials;
mod data_folder;
mod demo;
mod demo_mount;
mod diagnostics;
mod disk_damage;
mod disk_faults;
mod faults;
mod fs_tools;
mod get;
mod hostile;
mod hygiene;
mod kernel;
mod limits;
mod links;
mod login;
mod messages;
mod model;
mod mounting;
mod names;
mod netcdf;
mod networks;
mod originals;
mod outages;
mod output;
mod peers;
mod plot;
mod providers;
mod python;
mod python_package;
mod reading;
mod search;
mod serve_security;
mod serving;
mod settings;
mod shared_cache;
#[cfg(feature = "shared-tests")]
mod shared_rdf;
mod system_integration;
mod tables;
#[cfg(feature = "shared-tests")]
mod tree;
mod waiting;
