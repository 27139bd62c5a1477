//! The addresses of a demo portal in this process, for the command line and all tests.

use icos_demo::DemoPortal;
use icos_portal::{Service, Services};

/// Seed of the demo's repository, so that its contents, and their ids, are always the
/// same.
pub const SEED: u64 = 2026;

/// Returns the addresses of `portal`'s services, for a client.
#[must_use]
pub fn client_services(portal: &DemoPortal) -> Services {
    let urls = [
        (Service::Auth, portal.auth_url()),
        (Service::Meta, portal.meta_url()),
        (Service::Data, portal.data_url()),
    ];
    urls.into_iter().fold(
        Services::of(portal.repository().envri()),
        |services, (service, url)| services.with(service, &url).expect("a URL on loopback"),
    )
}
