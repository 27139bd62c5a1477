//! Where a repository's three services are.

use std::fmt;

use url::Url;

use super::Envri;

/// One of a repository's services, each on a host of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Service {
    /// Logs people in: gets credentials and the cookie.
    Auth,
    /// Knows what there is: gets neither.
    Meta,
    /// Delivers bytes: gets the cookie.
    Data,
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
/// The URLs are the repository's own unless overridden, which is how any
/// command can talk to a portal elsewhere (a demo, a mirror, a test).
#[derive(Clone, Debug)]
pub struct Services {
    envri: Envri,
    auth: Url,
    meta: Url,
    data: Url,
}

/// The text is no URL of a service.
#[derive(Debug, thiserror::Error)]
#[error("expected an http or https URL such as {example}, found {found:?}")]
pub struct BadServiceUrl {
    found: String,
    example: &'static str,
}

impl Services {
    /// The services of `envri` where the world finds them.
    #[must_use]
    pub fn of(envri: Envri) -> Self {
        let parse = |url: &'static str| Url::parse(url).expect("the built-in URLs are valid");
        Self {
            envri,
            auth: parse(envri.auth_url()),
            meta: parse(envri.meta_url()),
            data: parse(envri.data_url()),
        }
    }

    /// The same repository with `service` at another URL.
    pub fn with(mut self, service: Service, url: &str) -> Result<Self, BadServiceUrl> {
        let (slot, example) = match service {
            Service::Auth => (&mut self.auth, self.envri.auth_url()),
            Service::Meta => (&mut self.meta, self.envri.meta_url()),
            Service::Data => (&mut self.data, self.envri.data_url()),
        };
        *slot = Url::parse(url)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
            .ok_or_else(|| BadServiceUrl {
                found: url.to_owned(),
                example,
            })?;
        Ok(self)
    }

    /// The repository.
    #[must_use]
    pub fn envri(&self) -> Envri {
        self.envri
    }

    /// The base URL of `service`.
    #[must_use]
    pub fn base(&self, service: Service) -> &Url {
        match service {
            Service::Auth => &self.auth,
            Service::Meta => &self.meta,
            Service::Data => &self.data,
        }
    }

    /// The URL of `segments` under `service`, each percent-encoded as one
    /// path segment.
    #[must_use]
    pub fn url(&self, service: Service, segments: &[&str]) -> Url {
        let mut url = self.base(service).clone();
        url.path_segments_mut()
            .expect("http and https URLs have paths")
            .pop_if_empty()
            .extend(segments);
        url
    }

    /// Where a person finds their account: the token under "My Account", and
    /// the data licence to accept in the profile.
    #[must_use]
    pub fn account_page(&self) -> String {
        self.auth.to_string()
    }

    /// Host and port of the data service as one safe path component, e.g.
    /// `data.icos-cp.eu` or `127.0.0.1_4713`: repositories and demo portals
    /// cache apart.
    #[must_use]
    pub fn cache_name(&self) -> String {
        self.host_name(Service::Data)
    }

    /// The same of any service: what it told is kept under it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_and_bases_keep_their_paths() {
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
    fn other_schemes_are_refused() {
        for url in ["file:///etc/passwd", "data.icos-cp.eu", ""] {
            assert!(
                Services::of(Envri::Icos).with(Service::Meta, url).is_err(),
                "{url}"
            );
        }
    }
}
