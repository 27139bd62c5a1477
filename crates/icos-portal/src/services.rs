//! The base URLs of the three services of a repository.

use std::fmt;

use url::Url;

use super::Envri;

/// One of the services of a repository. Each has its own host.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Service {
    /// Authenticates users. Receives credentials and the token.
    Auth,
    /// Serves metadata. Receives neither credentials nor the token.
    Meta,
    /// Serves data. Receives the token.
    Data,
}

impl Service {
    /// Every service.
    pub const ALL: [Service; 3] = [Service::Auth, Service::Meta, Service::Data];
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Service::Auth => "authentication",
            Service::Meta => "metadata",
            Service::Data => "data",
        })
    }
}

/// A repository and the base URLs of its services.
///
/// The URLs are the public ones unless [`Services::with`] overrides them, e.g.
/// for a demo portal, a mirror or a test.
///
/// ```
/// use icos_portal::{Envri, Service, Services};
///
/// let services = Services::of(Envri::Sites)
///     .with(Service::Data, "http://127.0.0.1:4713")?;
/// assert_eq!(
///     services.base(Service::Meta).as_str(),
///     "https://meta.fieldsites.se/"
/// );
/// assert_eq!(services.cache_name(), "127.0.0.1_4713");
/// # Ok::<(), icos_portal::services::BadServiceUrl>(())
/// ```
#[derive(Clone, Debug)]
pub struct Services {
    envri: Envri,
    /// One for each [`Service`].
    urls: [Url; 3],
}

/// The text is not the URL of a service.
#[derive(Debug, thiserror::Error)]
#[error("expected an http or https URL such as {example}, found {found:?}")]
pub struct BadServiceUrl {
    found: String,
    example: &'static str,
}

impl Services {
    /// Returns the services of `envri` at their public URLs.
    #[must_use]
    pub fn of(envri: Envri) -> Self {
        let parse = |url| Url::parse(url).expect("the built-in URLs are valid");
        Self {
            envri,
            urls: public_urls(envri).map(parse),
        }
    }

    /// Returns the same services with another URL for `service`.
    ///
    /// # Errors
    ///
    /// [`BadServiceUrl`] unless `url` is an `http` or `https` URL with a host.
    pub fn with(mut self, service: Service, url: &str) -> Result<Self, BadServiceUrl> {
        self.urls[service as usize] = Url::parse(url)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .ok_or_else(|| BadServiceUrl {
                found: url.to_owned(),
                example: public_urls(self.envri)[service as usize],
            })?;
        Ok(self)
    }

    /// Returns the repository.
    #[must_use]
    pub fn envri(&self) -> Envri {
        self.envri
    }

    /// Returns the base URL of `service`.
    #[must_use]
    pub fn base(&self, service: Service) -> &Url {
        &self.urls[service as usize]
    }

    /// Returns the URL with the path `segments` below the base URL of
    /// `service`. Each segment is percent-encoded.
    #[must_use]
    pub fn url(&self, service: Service, segments: &[&str]) -> Url {
        let mut url = self.base(service).clone();
        url.path_segments_mut()
            .expect("http and https URLs have paths")
            .pop_if_empty()
            .extend(segments);
        url
    }

    /// Returns the URL of the account page. Users copy a token there from "My
    /// Account", and accept the data licence in the profile.
    #[must_use]
    pub fn account_page(&self) -> String {
        self.base(Service::Auth).to_string()
    }

    /// Returns host and port of the data service as one safe path component,
    /// e.g. `data.icos-cp.eu` or `127.0.0.1_4713`, so that repositories and
    /// demo portals have separate caches.
    #[must_use]
    pub fn cache_name(&self) -> String {
        self.host_name(Service::Data)
    }

    /// Returns host and port of `service` as one safe path component.
    #[must_use]
    pub fn host_name(&self, service: Service) -> String {
        let url = self.base(service);
        let host = url.host_str().unwrap_or("unknown");
        let name = match url.port() {
            Some(port) => format!("{host}_{port}"),
            None => host.to_owned(),
        };
        name.replace(
            |c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c),
            "_",
        )
    }
}

fn public_urls(envri: Envri) -> [&'static str; 3] {
    [envri.auth_url(), envri.meta_url(), envri.data_url()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encodes_segments_and_keeps_the_path_of_the_base() {
        let services = Services::of(Envri::Icos)
            .with(Service::Data, "http://127.0.0.1:81/base/")
            .unwrap();
        assert_eq!(
            services.url(Service::Data, &["objects", "a b/c"]).as_str(),
            "http://127.0.0.1:81/base/objects/a%20b%2Fc"
        );
        assert_eq!(services.cache_name(), "127.0.0.1_81");
        assert_eq!(
            Services::of(Envri::Sites).cache_name(),
            "data.fieldsites.se"
        );
    }

    #[test]
    fn with_fails_on_a_url_of_another_scheme() {
        for url in ["file:///etc/passwd", "data.icos-cp.eu", ""] {
            assert!(
                Services::of(Envri::Icos).with(Service::Meta, url).is_err(),
                "{url}"
            );
        }
    }
}
