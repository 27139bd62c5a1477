//! The repositories that run the Carbon Portal's software.
//!
//! Constants are those of `icoscp_core`'s `envri.py`, the portal's own Python
//! client; the two must agree for credentials and metadata to be shared.

use std::fmt;
use std::str::FromStr;

/// A repository: an environmental research infrastructure ("ENVRI").
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Envri {
    /// The Integrated Carbon Observation System.
    #[default]
    Icos,
    /// The Swedish Infrastructure for Ecosystem Science.
    Sites,
    /// The ICOS Cities project.
    IcosCities,
}

impl Envri {
    /// Every repository, in the order they are offered to people.
    pub const ALL: [Envri; 3] = [Envri::Icos, Envri::Sites, Envri::IcosCities];

    /// The name as the Python library spells it, e.g. `ICOSCities`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Envri::Icos => "ICOS",
            Envri::Sites => "SITES",
            Envri::IcosCities => "ICOSCities",
        }
    }

    /// The name for a command line, e.g. `cities`.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Envri::Icos => "icos",
            Envri::Sites => "sites",
            Envri::IcosCities => "cities",
        }
    }

    /// Base URL of the authentication service, without a trailing slash.
    #[must_use]
    pub fn auth_url(self) -> &'static str {
        match self {
            Envri::Icos | Envri::IcosCities => "https://cpauth.icos-cp.eu",
            Envri::Sites => "https://auth.fieldsites.se",
        }
    }

    /// Base URL of the metadata service, without a trailing slash.
    #[must_use]
    pub fn meta_url(self) -> &'static str {
        match self {
            Envri::Icos => "https://meta.icos-cp.eu",
            Envri::Sites => "https://meta.fieldsites.se",
            Envri::IcosCities => "https://citymeta.icos-cp.eu",
        }
    }

    /// Base URL of the data service, without a trailing slash.
    #[must_use]
    pub fn data_url(self) -> &'static str {
        match self {
            Envri::Icos => "https://data.icos-cp.eu",
            Envri::Sites => "https://data.fieldsites.se",
            Envri::IcosCities => "https://citydata.icos-cp.eu",
        }
    }

    /// Prefix of the IRIs of stations, data types and other instances of the
    /// metadata, with a trailing slash. Note ICOS's `http`.
    #[must_use]
    pub fn instance_prefix(self) -> &'static str {
        match self {
            Envri::Icos => "http://meta.icos-cp.eu/",
            Envri::Sites => "https://meta.fieldsites.se/",
            Envri::IcosCities => "https://citymeta.icos-cp.eu/",
        }
    }

    /// Prefix of landing pages' IRIs as they stand in the metadata:
    /// `https://<meta host>/objects/`.
    #[must_use]
    pub fn landing_prefix(self) -> String {
        format!("{}/objects/", self.meta_url())
    }

    /// Name of the cookie that carries the authentication token.
    #[must_use]
    pub fn cookie_name(self) -> &'static str {
        match self {
            Envri::Icos | Envri::IcosCities => "cpauthToken",
            Envri::Sites => "fieldsitesToken",
        }
    }

    /// IRI of the class whose instances are the repository's own stations.
    #[must_use]
    pub fn station_class(self) -> &'static str {
        match self {
            Envri::Icos => "http://meta.icos-cp.eu/ontologies/cpmeta/IcosStation",
            Envri::Sites => "https://meta.fieldsites.se/ontologies/sites/Station",
            Envri::IcosCities => "http://meta.icos-cp.eu/ontologies/cpmeta/IcosCitiesStation",
        }
    }

    /// Name of the environment variable that says where the data files lie on
    /// a machine that has them, e.g. `PORTAL_DATA_PATH_ICOS`.
    #[must_use]
    pub fn data_path_variable(self) -> &'static str {
        match self {
            Envri::Icos => "PORTAL_DATA_PATH_ICOS",
            Envri::Sites => "PORTAL_DATA_PATH_SITES",
            Envri::IcosCities => "PORTAL_DATA_PATH_ICOSCITIES",
        }
    }
}

impl fmt::Display for Envri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no repository.
#[derive(Debug, thiserror::Error)]
#[error("expected a repository (icos, sites or cities), found {0:?}")]
pub struct UnknownEnvri(String);

impl FromStr for Envri {
    type Err = UnknownEnvri;

    /// Accepts both spellings, [`Envri::name`] and [`Envri::flag`], in any case.
    fn from_str(text: &str) -> Result<Self, UnknownEnvri> {
        Envri::ALL
            .into_iter()
            .find(|e| e.name().eq_ignore_ascii_case(text) || e.flag().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownEnvri(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_every_repository_parse() {
        for envri in Envri::ALL {
            assert_eq!(envri.name().parse::<Envri>().unwrap(), envri);
            assert_eq!(envri.flag().parse::<Envri>().unwrap(), envri);
        }
        assert!("icoscity".parse::<Envri>().is_err());
    }
}
