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
    /// A bucket of S3, or of a store that speaks it.
    Bucket {
        /// Its name.
        name: String,
        /// What all keys begin with; may be empty.
        prefix: String,
    },
}

/// The text names no store.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected the URL of a folder or bucket that all machines share, such as file:///scratch/icosfs or s3://bucket/prefix, found {0:?}"
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
            "s3" if is_plain && url.port().is_none() && url.username().is_empty() => {
                let name = url.host_str().filter(|name| !name.is_empty());
                let prefix = url.path().trim_matches('/');
                let is_safe = |part: &str| {
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                    !part.trim_matches('.').is_empty() && part.chars().all(is_plain)
                };
                if !(prefix.is_empty() || prefix.split('/').all(is_safe)) {
                    return Err(bad());
                }
                Ok(Self::Bucket {
                    name: name.ok_or_else(bad)?.to_owned(),
                    prefix: prefix.to_owned(),
                })
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
            Self::Bucket { name, prefix } => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_is_the_url_of_an_absolute_folder_or_of_a_bucket() {
        let location: SharedLocation = "file:///scratch/my%20cache".parse().unwrap();
        assert_eq!(location, SharedLocation::Folder("/scratch/my cache".into()));
        assert_eq!(location.to_string(), "file:///scratch/my%20cache");
        for (text, prefix) in [
            ("s3://b-1/a/b", "a/b"),
            ("s3://b-1", ""),
            ("s3://b-1/x/", "x"),
        ] {
            let location: SharedLocation = text.parse().unwrap();
            let (name, prefix) = ("b-1".to_owned(), prefix.to_owned());
            assert_eq!(location, SharedLocation::Bucket { name, prefix });
        }
        for bad in [
            "s3://",
            "s3://b/a%20b",
            "s3://b/a//b",
            "s3://key:secret@b/x",
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
