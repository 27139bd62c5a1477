//! The values of `--shared-cache` and `--shared-leases`: where the store is, and where its
//! leases are.

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

/// Where the leases of a shared cache are, if they are not in its store: a server of
/// Redis, or of what speaks its protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseLocation {
    /// The name or address of the machine, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The number of the database.
    pub(super) database: i64,
    /// The name of the login, if it is not that of the server's default user.
    #[cfg_attr(
        not(feature = "cluster"),
        allow(dead_code, reason = "no server is used")
    )]
    pub(super) user: Option<String>,
    pub(super) transport: LeaseTransport,
}

/// How the server is talked to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeaseTransport {
    Plain,
    Tls,
}

/// The text names no server of leases.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadLeaseLocation {
    /// It is not the URL of a server.
    #[error(
        "expected the URL of a server of Redis, such as redis://host:6379/0, or rediss://host for TLS, found {0:?}"
    )]
    NotAServer(String),
    /// It contains a password.
    #[error(
        "expected a URL without a password, which other users of the machine could see; write it to a file that you alone can read, and name the file with --shared-leases-password-file"
    )]
    HasPassword,
}

impl FromStr for LeaseLocation {
    type Err = BadLeaseLocation;

    fn from_str(text: &str) -> Result<Self, BadLeaseLocation> {
        let bad = || {
            // It may contain a password nevertheless.
            let shown = text.rsplit('@').next().unwrap_or_default();
            BadLeaseLocation::NotAServer(shown.chars().take(200).collect())
        };
        let url = Url::parse(text).map_err(|_| bad())?;
        let transport = match url.scheme() {
            "redis" => LeaseTransport::Plain,
            "rediss" => LeaseTransport::Tls,
            _ => return Err(bad()),
        };
        if url.password().is_some() {
            return Err(BadLeaseLocation::HasPassword);
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let database = match url.path().trim_matches('/') {
            "" => 0,
            number => number.parse::<u16>().map_err(|_| bad())?.into(),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad());
        }
        let user = percent_encoding::percent_decode_str(url.username()).decode_utf8();
        let user = user.map_err(|_| bad())?;
        Ok(Self {
            host,
            port: url.port().unwrap_or(6379),
            database,
            user: (!user.is_empty()).then(|| user.into_owned()),
            transport,
        })
    }
}

impl fmt::Display for LeaseLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            database,
            user: _,
            transport,
        } = self;
        let scheme = match transport {
            LeaseTransport::Plain => "redis",
            LeaseTransport::Tls => "rediss",
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}/{database}")
        } else {
            write!(f, "{scheme}://{host}:{port}/{database}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_on_a_server_whose_url_has_no_password() {
        for (text, shown, user) in [
            ("redis://h", "redis://h:6379/0", None),
            ("redis://h:7000/3", "redis://h:7000/3", None),
            ("rediss://a%40b@h/", "rediss://h:6379/0", Some("a@b")),
            ("redis://[::1]:7000", "redis://[::1]:7000/0", None),
        ] {
            let location: LeaseLocation = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(location.user.as_deref(), user, "{text}");
        }
        for secret in ["redis://:hidden@h", "redis://u:hidden@h:7000/1"] {
            let error = secret.parse::<LeaseLocation>().unwrap_err();
            assert_eq!(error, BadLeaseLocation::HasPassword);
        }
        for bad in [
            "",
            "redis://",
            "http://h",
            "h:6379",
            "redis://h/x",
            "redis://h/-1",
            "redis://h?x=1",
            "http://u:hidden@h",
            "redis://u:hidden@h:port",
        ] {
            let error = bad.parse::<LeaseLocation>().unwrap_err().to_string();
            assert!(error.contains("redis://host:6379/0"), "{bad}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }

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
