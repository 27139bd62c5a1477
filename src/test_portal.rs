//! Helpers for the unit tests that read from a demo portal.

use icos_demo::DemoPortal;
use icos_portal::{Service, Services};

/// The addresses of `portal`'s services, for a client.
pub(crate) fn client_services(portal: &DemoPortal) -> Services {
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
