//! The files of the AWS tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Variables such as `AWS_ACCESS_KEY_ID` and `AWS_REGION` take precedence; `object_store`
//! reads them. Of the files, only static keys, region and endpoint are used.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use secrecy::{ExposeSecret as _, SecretString};

use super::store::StoreError;

/// Maximum length of a file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the files say of one profile, where the variables say nothing.
#[derive(Debug, Default)]
pub(super) struct AwsProfile {
    keys: Option<AwsKeys>,
    region: Option<String>,
    endpoint: Option<String>,
}

#[derive(Debug)]
struct AwsKeys {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
}

impl AwsProfile {
    /// Reads the files, if they exist.
    pub(super) fn load() -> Result<Self, StoreError> {
        let profile = env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
        let credentials = read("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
        let config = read("AWS_CONFIG_FILE", ".aws/config")?;
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let mut found = Self::of(&profile, &credentials, &config);
        let roles = [
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ];
        if roles.into_iter().any(is_set) {
            found.keys = None;
        }
        if is_set("AWS_REGION") || is_set("AWS_DEFAULT_REGION") {
            found.region = None;
        }
        if is_set("AWS_ENDPOINT_URL") || is_set("AWS_ENDPOINT_URL_S3") {
            found.endpoint = None;
        }
        Ok(found)
    }

    fn of(profile: &str, credentials: &str, config: &str) -> Self {
        let credentials = section(credentials, |name| name == profile);
        let config = section(config, |name| {
            name.strip_prefix("profile ").map_or(name, str::trim) == profile
        });
        let get = |name: &str| credentials.get(name).or_else(|| config.get(name)).cloned();
        let keys = get("aws_access_key_id").zip(get("aws_secret_access_key"));
        Self {
            keys: keys.map(|(id, secret)| AwsKeys {
                id,
                secret: secret.into(),
                token: get("aws_session_token").map(Into::into),
            }),
            region: get("region"),
            endpoint: get("endpoint_url"),
        }
    }

    /// Returns `builder` with what was found.
    pub(super) fn apply(self, mut builder: AmazonS3Builder) -> AmazonS3Builder {
        if let Some(AwsKeys { id, secret, token }) = self.keys {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret.expose_secret());
            if let Some(token) = token {
                builder = builder.with_token(token.expose_secret());
            }
        }
        if let Some(region) = self.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = self.endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::Endpoint, endpoint);
        }
        builder
    }
}

/// The file that `variable` names, or else the one at `default` in the home folder; empty
/// if it does not exist.
fn read(variable: &str, default: &str) -> Result<String, StoreError> {
    let named = env::var_os(variable).filter(|path| !path.is_empty());
    let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(default));
    let Some(path) = named.map(PathBuf::from).or(home) else {
        return Ok(String::new());
    };
    match icos_files::read_file(&path, MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(StoreError::Denied(format!("{}: {error}", path.display()))),
    }
}

/// The settings in the first section whose name `is_wanted`.
fn section(text: &str, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let name_of = |line: &str| {
        let name = line.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(name.trim().to_owned())
    };
    let lines = text
        .lines()
        .skip_while(|line| !name_of(line).is_some_and(|name| is_wanted(&name)))
        .skip(1)
        .take_while(|line| name_of(line).is_none());
    let setting = |line: &str| {
        let line = line.trim();
        let is_comment = line.starts_with(['#', ';']);
        let (name, value) = line.split_once('=').filter(|_| !is_comment)?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    lines.filter_map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_is_read_from_both_files() {
        let credentials = "# a comment\n[other]\naws_access_key_id = O\n\n[default]\n\
            aws_access_key_id=A\naws_secret_access_key = B=C\n; aws_session_token = no\n[x]\n\
            aws_session_token = no\n";
        let config = "[profile x]\nregion = x\n[default]\nregion = eu-north-1\n\
            endpoint_url = http://127.0.0.1:9000\n";
        let profile = AwsProfile::of("default", credentials, config);
        let keys = profile.keys.unwrap();
        assert_eq!((&*keys.id, keys.secret.expose_secret()), ("A", "B=C"));
        assert!(keys.token.is_none());
        assert_eq!(profile.region.as_deref(), Some("eu-north-1"));
        assert_eq!(profile.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        let profile = AwsProfile::of("x", credentials, config);
        assert!(profile.keys.is_none() && profile.region.as_deref() == Some("x"));
    }
}
