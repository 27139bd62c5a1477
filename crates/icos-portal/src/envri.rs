//! The repositories that run the Carbon Portal's software, and their constants.
//!
//! The constants are those of `icoscp_core`'s `envri.py`, the portal's own
//! Python client. They must agree, so that both clients share credentials and
//! metadata.

use std::fmt;
use std::str::FromStr;

/// A repository: an environmental research infrastructure ("ENVRI").
///
/// ```
/// use icos_portal::Envri;
///
/// assert_eq!("ICOSCities".parse::<Envri>()?, Envri::IcosCities);
/// assert_eq!("cities".parse::<Envri>()?, Envri::IcosCities);
/// assert_eq!(Envri::Sites.data_url(), "https://data.fieldsites.se");
/// # Ok::<(), icos_portal::envri::UnknownEnvri>(())
/// ```
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
    /// Every repository, in the order in which user interfaces list them.
    pub const ALL: [Envri; 3] = [Envri::Icos, Envri::Sites, Envri::IcosCities];

    /// Returns the name in the spelling of the Python library, e.g.
    /// `ICOSCities`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Envri::Icos => "ICOS",
            Envri::Sites => "SITES",
            Envri::IcosCities => "ICOSCities",
        }
    }

    /// Returns the name for a command line, e.g. `cities`.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Envri::Icos => "icos",
            Envri::Sites => "sites",
            Envri::IcosCities => "cities",
        }
    }

    /// Returns the base URL of the authentication service, without a trailing
    /// slash.
    #[must_use]
    pub fn auth_url(self) -> &'static str {
        match self {
            Envri::Icos | Envri::IcosCities => "https://cpauth.icos-cp.eu",
            Envri::Sites => "https://auth.fieldsites.se",
        }
    }

    /// Returns the base URL of the metadata service, without a trailing slash.
    #[must_use]
    pub fn meta_url(self) -> &'static str {
        match self {
            Envri::Icos => "https://meta.icos-cp.eu",
            Envri::Sites => "https://meta.fieldsites.se",
            Envri::IcosCities => "https://citymeta.icos-cp.eu",
        }
    }

    /// Returns the base URL of the data service, without a trailing slash.
    #[must_use]
    pub fn data_url(self) -> &'static str {
        match self {
            Envri::Icos => "https://data.icos-cp.eu",
            Envri::Sites => "https://data.fieldsites.se",
            Envri::IcosCities => "https://citydata.icos-cp.eu",
        }
    }

    /// Returns the prefix of the IRIs of stations, data types and other
    /// instances of the metadata, with a trailing slash. ICOS uses `http` here.
    #[must_use]
    pub fn instance_prefix(self) -> &'static str {
        match self {
            Envri::Icos => "http://meta.icos-cp.eu/",
            Envri::Sites => "https://meta.fieldsites.se/",
            Envri::IcosCities => "https://citymeta.icos-cp.eu/",
        }
    }

    /// Returns the prefix of the IRIs of landing pages as they occur in the
    /// metadata: `https://<meta host>/objects/`.
    #[must_use]
    pub fn landing_prefix(self) -> String {
        format!("{}/objects/", self.meta_url())
    }

    /// Returns the prefix of the persistent identifiers of objects, which are handles:
    /// `<prefix>/<id>`.
    #[must_use]
    pub fn handle_prefix(self) -> &'static str {
        match self {
            Envri::Icos | Envri::IcosCities => "11676",
            Envri::Sites => "11676.1",
        }
    }

    /// Returns the name of the cookie that carries the authentication token.
    #[must_use]
    pub fn cookie_name(self) -> &'static str {
        match self {
            Envri::Icos | Envri::IcosCities => "cpauthToken",
            Envri::Sites => "fieldsitesToken",
        }
    }

    /// Returns the IRI of the class whose instances are the repository's own
    /// stations.
    #[must_use]
    pub fn station_class(self) -> &'static str {
        match self {
            Envri::Icos => "http://meta.icos-cp.eu/ontologies/cpmeta/IcosStation",
            Envri::Sites => "https://meta.fieldsites.se/ontologies/sites/Station",
            Envri::IcosCities => "http://meta.icos-cp.eu/ontologies/cpmeta/IcosCitiesStation",
        }
    }

    /// Returns the name of the environment variable with the path of the data
    /// files, on machines that have them on a disk: e.g.
    /// `PORTAL_DATA_PATH_ICOS`.
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

/// The text is not the name of a repository.
#[derive(Debug, thiserror::Error)]
#[error("expected a repository (icos, sites or cities), found {0:?}")]
pub struct UnknownEnvri(String);

impl FromStr for Envri {
    type Err = UnknownEnvri;

    /// Accepts both names, [`Envri::name`] and [`Envri::flag`], in any case.
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
    fn both_names_of_every_repository_parse() {
        for envri in Envri::ALL {
            assert_eq!(envri.name().parse::<Envri>().unwrap(), envri);
            assert_eq!(envri.flag().parse::<Envri>().unwrap(), envri);
        }
        assert!("icoscity".parse::<Envri>().is_err());
    }
}
