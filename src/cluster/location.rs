//! The value of `--shared-cache`: where the store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// Where a shared cache is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SharedLocation {
    /// A folder that all machines have, by its absolute path.
    Folder(PathBuf),
}

/// The text names no store.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected the URL of a folder that all machines share, such as file:///scratch/icosfs, found {0:?}"
)]
pub struct BadLocation(String);

impl FromStr for SharedLocation {
    type Err = BadLocation;

    fn from_str(text: &str) -> Result<Self, BadLocation> {
        let bad = || BadLocation(text.chars().take(200).collect());
        let url = Url::parse(text).map_err(|_| bad())?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        match url.scheme() {
            "file" if is_plain && url.path() != "/" => {
                let path = url.to_file_path().map_err(|()| bad())?;
                Ok(Self::Folder(path))
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for SharedLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => match Url::from_file_path(path) {
                Ok(url) => f.write_str(url.as_str()),
                Err(()) => write!(f, "file://{}", path.display()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_is_the_url_of_an_absolute_folder() {
        let location: SharedLocation = "file:///scratch/my%20cache".parse().unwrap();
        assert_eq!(location, SharedLocation::Folder("/scratch/my cache".into()));
        assert_eq!(location.to_string(), "file:///scratch/my%20cache");
        for bad in [
            "/scratch",
            "scratch",
            "file:///",
            "file://host/scratch",
            "file:///a?b",
            "http://example.org/",
            "",
        ] {
            let error = bad.parse::<SharedLocation>().unwrap_err().to_string();
            assert!(error.contains("file:///scratch/icosfs"), "{error}");
        }
    }
}
