//! The credentials file of `icoscp_core`, which both clients read and write:
//! `{"user_id": ..., "password": ..., "cookie_value": ...}`.
//!
//! The password is the hexadecimal form of its inverted UTF-8 bytes:
//! obfuscated, not encrypted. The cookie is the last token, followed by `;`; it
//! is absent before the first login. Writing preserves all other fields.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Token;
use super::login_file::LoginFile;
use super::secret_file::{FileError, FileLock, LineError, SecretFile};
use crate::Envri;
use crate::id::decode_hex;
use crate::redaction::remember;
use icos_sync::run_blocking;

/// A user name, a password and, after a login, its token.
#[derive(Clone, Debug)]
pub struct Credentials {
    user: String,
    password: SecretString,
    token: Option<Arc<Token>>,
}

impl Credentials {
    /// Creates credentials without a token.
    #[must_use]
    pub fn new(user: String, password: SecretString) -> Self {
        remember(password.expose_secret());
        Self {
            user,
            password,
            token: None,
        }
    }

    /// Returns the same credentials with the token of a login.
    #[must_use]
    pub fn with_token(self, token: Arc<Token>) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// Parses a file, and returns its credentials and its new content if they
    /// are saved; `None` if it is damaged. For fuzzing.
    pub(crate) fn parse(content: &[u8], envri: Envri) -> Option<(Self, Vec<u8>)> {
        let mut document = CredentialsDocument::parse(content).ok()?;
        let credentials = document.credentials(envri);
        document.set(&credentials, envri);
        let written = serde_json::to_vec(&document.fields.0).ok()?;
        Some((credentials, written))
    }

    /// Returns the mail address of the user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &str {
        self.password.expose_secret()
    }

    pub(super) fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }

    /// Whether user name and password are the same.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.user == other.user && self.password() == other.password()
    }
}

/// A file with [`Credentials`], in the form of the Python library.
pub type CredentialsFile = LoginFile<Credentials>;

impl LoginFile<Credentials> {
    /// Names the file at `path` with a login of `envri`.
    #[must_use]
    pub fn at(path: PathBuf, envri: Envri) -> Self {
        Self::new(SecretFile::with_password(path), envri, |content, envri| {
            Ok(CredentialsDocument::parse(content)?.credentials(envri))
        })
    }

    /// Names the standard file of the Python library: `~/.icoscp/<cookie
    /// name>_auth_conf.json`. `None` without a home folder.
    #[must_use]
    pub fn standard(envri: Envri) -> Option<Self> {
        let name = format!("{}_auth_conf.json", envri.cookie_name());
        let home = std::env::home_dir().filter(|home| home.is_absolute())?;
        Some(Self::at(home.join(".icoscp").join(name), envri))
    }

    /// Saves `credentials` with their token. Preserves all other fields of the
    /// file.
    ///
    /// # Errors
    ///
    /// [`FileError::Damaged`] if the file does not have the form of the Python
    /// library; it is not changed.
    pub async fn save(&self, credentials: &Credentials) -> Result<(), FileError> {
        let lock = self.lock().await?;
        let (file, credentials) = (self.clone(), credentials.clone());
        run_blocking(move || {
            let document = file.document()?.unwrap_or_default();
            document.save(&file, &lock, &credentials)
        })
        .await
    }

    /// Stores the token of `credentials`, unless the file contains other
    /// credentials by now.
    pub(super) async fn renew(
        &self,
        lock: FileLock,
        credentials: Credentials,
    ) -> Result<(), FileError> {
        let file = self.clone();
        run_blocking(move || match file.document()? {
            Some(document) if document.credentials(file.envri).same_as(&credentials) => {
                document.save(&file, &lock, &credentials)
            }
            // The user logged out, or in as another user, meanwhile.
            _ => Ok(()),
        })
        .await
    }

    fn document(&self) -> Result<Option<CredentialsDocument>, FileError> {
        let found = self.file.read(CredentialsDocument::parse)?;
        Ok(found.map(|(document, _)| document))
    }
}

/// The complete content of the file.
#[derive(Default)]
struct CredentialsDocument {
    fields: ZeroizedFields,
    user: String,
    password: Zeroizing<String>,
}

#[derive(Deserialize)]
struct KnownFields {
    user_id: String,
    password: String,
    #[expect(dead_code, reason = "checks the type; the value is in `fields`")]
    cookie_value: Option<String>,
}

impl CredentialsDocument {
    fn parse(content: &[u8]) -> Result<Self, LineError> {
        let fields = serde_json::from_slice(content).map_err(|error| line_error(&error))?;
        let fields = ZeroizedFields(fields);
        let known: KnownFields =
            serde_json::from_slice(content).map_err(|error| line_error(&error))?;
        let password = deobfuscated(&Zeroizing::new(known.password)).ok_or_else(|| LineError {
            line: line_of(content, "\"password\""),
            reason: "expected `password` as icoscp_core writes it, in hexadecimal digits"
                .to_owned(),
        })?;
        Ok(Self {
            fields,
            user: known.user_id,
            password,
        })
    }

    fn credentials(&self, envri: Envri) -> Credentials {
        let cookie = self.fields.0.get("cookie_value").and_then(Value::as_str);
        remember(&self.password);
        Credentials {
            user: self.user.clone(),
            password: SecretString::from(self.password.as_str()),
            // A token that cannot be parsed is ignored; the next login replaces
            // it.
            token: cookie.and_then(|text| Token::parse(envri, text).ok().map(Arc::new)),
        }
    }

    fn set(&mut self, credentials: &Credentials, envri: Envri) {
        let mut put = |name: &str, text: String| {
            if let Some(Value::String(mut old)) =
                self.fields.0.insert(name.to_owned(), Value::String(text))
            {
                old.zeroize();
            }
        };
        put("user_id", credentials.user.clone());
        put("password", obfuscated(credentials.password()));
        if let Some(token) = credentials.token() {
            debug_assert!(token.cookie().starts_with(envri.cookie_name()));
            put("cookie_value", format!("{};", token.cookie()));
        } else {
            // The old token belongs to other credentials.
            self.fields.0.remove("cookie_value");
        }
    }

    fn save(
        mut self,
        file: &CredentialsFile,
        lock: &FileLock,
        credentials: &Credentials,
    ) -> Result<(), FileError> {
        self.set(credentials, file.envri);
        let mut content = Zeroizing::new(Vec::with_capacity(16 << 10));
        serde_json::to_writer(&mut *content, &self.fields.0)
            .map_err(|error| file.file.failed("written", &error.into()))?;
        file.file.replace(lock, &content)
    }
}

/// All fields, zeroized on drop.
#[derive(Default)]
struct ZeroizedFields(Map<String, Value>);

impl Drop for ZeroizedFields {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            if let Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}

/// Describes the error without the message of `serde_json`, which contains a
/// part of the input and so perhaps of the password.
fn line_error(error: &serde_json::Error) -> LineError {
    let reason = match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of file",
        serde_json::error::Category::Syntax => "expected JSON",
        _ => "expected an object with the texts `user_id` and `password`",
    };
    LineError {
        line: error.line().max(1),
        reason: reason.to_owned(),
    }
}

fn line_of(content: &[u8], name: &str) -> usize {
    let before = content
        .windows(name.len())
        .position(|window| window == name.as_bytes());
    content[..before.unwrap_or(0)]
        .split(|&byte| byte == b'\n')
        .count()
}

fn obfuscated(password: &str) -> String {
    let mut hex = String::with_capacity(2 * password.len());
    for byte in password.bytes() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{:02x}", !byte);
    }
    hex
}

fn deobfuscated(hex: &str) -> Option<Zeroizing<String>> {
    let mut password = decode_hex(hex)?;
    password.iter_mut().for_each(|byte| *byte = !*byte);
    let password = std::str::from_utf8(&password).ok()?;
    Some(Zeroizing::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::token::tests::token;
    use super::*;

    fn file(dir: &tempfile::TempDir) -> CredentialsFile {
        CredentialsFile::at(dir.path().join("a/conf.json"), Envri::Icos)
    }

    fn content(file: &CredentialsFile) -> Value {
        serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap()
    }

    #[test]
    fn password_obfuscation_matches_the_python_library() {
        // PasswordAuth.encode_password("p\u{e5}ss w\u{f6}rd")
        assert_eq!(obfuscated("p\u{e5}ss w\u{f6}rd"), "8f3c5a8c8cdf883c498d9b");
        assert_eq!(
            *deobfuscated("8F3c5a8c8cdf883c498d9b").unwrap(),
            "p\u{e5}ss w\u{f6}rd"
        );
        for bad in ["8", "8f3", "zz", "00", "\u{e5}"] {
            assert!(deobfuscated(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn save_and_load_round_trip_and_preserve_other_fields() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert!(file.load().unwrap().is_none());
        let credentials = Credentials::new("a@b.se".to_owned(), SecretString::from("secret"));
        file.save(&credentials).await.unwrap();
        assert!(content(&file).get("cookie_value").is_none());

        let mut with_more = content(&file);
        with_more["other"] = serde_json::json!({"x": [1, 2]});
        fs::write(file.path(), with_more.to_string()).unwrap();
        let token = Arc::new(token(i64::from(i32::MAX) * 1000));
        let renewed = credentials.clone().with_token(Arc::clone(&token));
        file.renew(file.lock().await.unwrap(), renewed)
            .await
            .unwrap();
        assert_eq!(content(&file)["other"], with_more["other"]);
        assert_eq!(
            content(&file)["cookie_value"],
            format!("{};", token.cookie()),
            "the form of icoscp_core"
        );
        let found = file.load().unwrap().unwrap();
        assert!(found.same_as(&credentials));
        assert!(found.token().unwrap().same_as(&token));
    }

    #[tokio::test]
    async fn renew_does_not_store_a_token_of_other_credentials() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        let old = Credentials::new("a@b.se".to_owned(), SecretString::from("old"));
        let new = Credentials::new("a@b.se".to_owned(), SecretString::from("new"));
        file.save(&new).await.unwrap();
        let late = old.with_token(Arc::new(token(0)));
        file.renew(file.lock().await.unwrap(), late.clone())
            .await
            .unwrap();
        assert!(content(&file).get("cookie_value").is_none());
        file.remove().await.unwrap();
        file.renew(file.lock().await.unwrap(), late).await.unwrap();
        assert!(!file.path().exists(), "the file must not reappear");
    }

    #[tokio::test]
    async fn load_of_a_damaged_file_names_path_and_line_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        fs::create_dir(file.path().parent().unwrap()).unwrap();
        for (damaged, line) in [
            ("", 1),
            ("{\n\"user_id\": \"a\",\n\"password\": hunter2}", 3),
            ("{\n\"user_id\": \"a\",\n\"password\": 4711,\n\"x\": 1}", 3),
            ("{\n\"user_id\": \"a\",\n\"password\": \"hunter2\"}", 3),
            ("{\"user_id\":\n\"a\"\n}", 3),
            ("[\n1]", 1),
            ("{\"user_id\": \"a\", \"password\": \"8f\"", 1),
        ] {
            fs::write(file.path(), damaged).unwrap();
            let message = file.load().unwrap_err().to_string();
            let position = format!("conf.json is damaged in line {line}:");
            assert!(message.contains(&position), "{damaged:?}: {message}");
            assert!(!message.contains("hunter2") && !message.contains("4711"));
            let credentials = Credentials::new(String::new(), SecretString::from(""));
            assert!(file.save(&credentials).await.is_err());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn load_restricts_permissions_to_the_owner() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        let credentials = Credentials::new("a".to_owned(), SecretString::from("b"));
        file.save(&credentials).await.unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        file.load().unwrap();
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
