//! User name and password in `icoscp_core`'s own file, shared with it both
//! ways: `{"user_id": ..., "password": ..., "cookie_value": ...}`.
//!
//! The password is the hexadecimal form of its inverted UTF-8 bytes:
//! obfuscated, not encrypted. The cookie is the last token, with the `;` that
//! the library keeps behind it; it is absent before the first login. Whatever
//! else is in the file stays there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::zeroize::{Zeroize as _, Zeroizing};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Token;
use super::secret_file::{FileError, FileLock, FileVersion, LineError, SecretFile};
use super::watched_file::Source;
use crate::Envri;

/// A user name, a password and perhaps the token they last gave.
#[derive(Clone, Debug)]
pub struct Credentials {
    user: String,
    password: SecretString,
    token: Option<Arc<Token>>,
}

impl Credentials {
    /// Credentials that were not used yet.
    #[must_use]
    pub fn new(user: String, password: SecretString) -> Self {
        Self {
            user,
            password,
            token: None,
        }
    }

    /// The same, with the token they gave.
    #[must_use]
    pub fn with_token(self, token: Arc<Token>) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// What a file of the library's form holds, and what it would be written
    /// as; `None` if it is damaged.
    pub(crate) fn parse(content: &[u8], envri: Envri) -> Option<(Self, Vec<u8>)> {
        let mut document = Document::parse(content).ok()?;
        let credentials = document.credentials(envri);
        document.set(&credentials, envri);
        let written = serde_json::to_vec(&document.fields.0).ok()?;
        Some((credentials, written))
    }

    /// The user's mail address.
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

    /// Whether user and password are the same.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.user == other.user && self.password() == other.password()
    }
}

/// A file of [`Credentials`].
#[derive(Clone, Debug)]
pub struct CredentialsFile {
    file: SecretFile,
    envri: Envri,
}

impl CredentialsFile {
    /// The file at `path` with a login of `envri`.
    #[must_use]
    pub fn at(path: PathBuf, envri: Envri) -> Self {
        Self {
            file: SecretFile::at(path),
            envri,
        }
    }

    /// The file that the Python library uses if it is told of no other:
    /// `~/.icoscp/<cookie name>_auth_conf.json`. `None` without a home folder.
    #[must_use]
    pub fn standard(envri: Envri) -> Option<Self> {
        let name = format!("{}_auth_conf.json", envri.cookie_name());
        let home = std::env::home_dir().filter(|home| home.is_absolute())?;
        Some(Self::at(home.join(".icoscp").join(name), envri))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What it holds; `None` if there is no such file. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`FileError::Damaged`] if it is not in the library's form.
    pub fn load(&self) -> Result<Option<Credentials>, FileError> {
        Ok(Source::load(self)?.map(|(credentials, _)| credentials))
    }

    /// Keeps `credentials`, with their token, beside whatever else is in the
    /// file.
    ///
    /// # Errors
    ///
    /// [`FileError::Damaged`] if what is there is not in the library's form;
    /// it is left as it is.
    pub async fn save(&self, credentials: &Credentials) -> Result<(), FileError> {
        let lock = self.lock().await?;
        let (file, credentials) = (self.clone(), credentials.clone());
        blocking(move || {
            let mut document = file.document()?.unwrap_or_default();
            document.set(&credentials, file.envri);
            document.write(&file.file, &lock)
        })
        .await
    }

    /// Removes it; false if there was none.
    pub async fn remove(&self) -> Result<bool, FileError> {
        self.file.remove().await
    }

    pub(super) async fn lock(&self) -> Result<FileLock, FileError> {
        self.file.lock().await
    }

    /// Keeps the token that `credentials` just gave, unless the file has
    /// others by now.
    pub(super) async fn renew(
        &self,
        lock: FileLock,
        credentials: Credentials,
    ) -> Result<(), FileError> {
        let file = self.clone();
        blocking(move || {
            let Some(mut document) = file.document()? else {
                // Logged out meanwhile.
                return Ok(());
            };
            if document.credentials(file.envri).same_as(&credentials) {
                document.set(&credentials, file.envri);
                document.write(&file.file, &lock)?;
            }
            Ok(())
        })
        .await
    }

    fn document(&self) -> Result<Option<Document>, FileError> {
        Ok(self.file.read(Document::parse)?.map(|(found, _)| found))
    }
}

impl Source for CredentialsFile {
    type Value = Credentials;

    fn stamp(&self) -> Result<Option<FileVersion>, FileError> {
        self.file.stamp()
    }

    fn load(&self) -> Result<Option<(Credentials, FileVersion)>, FileError> {
        self.file.tighten();
        let found = self.file.read(Document::parse)?;
        Ok(found.map(|(document, stamp)| (document.credentials(self.envri), stamp)))
    }

    fn busy(&self) -> FileError {
        FileError::Busy {
            path: self.path().to_owned(),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let work = tokio::task::spawn_blocking(work).await;
    work.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// The file's content, all of it.
#[derive(Default)]
struct Document {
    fields: Wiped,
    user: String,
    password: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Fields {
    user_id: String,
    password: String,
    #[allow(dead_code)] // Its type is checked; its value is in the map.
    cookie_value: Option<String>,
}

impl Document {
    fn parse(content: &[u8]) -> Result<Self, LineError> {
        let fields = serde_json::from_slice(content).map_err(|error| flaw(&error))?;
        let fields = Wiped(fields);
        let Fields {
            user_id, password, ..
        } = serde_json::from_slice(content).map_err(|error| flaw(&error))?;
        let password = revealed(&Zeroizing::new(password)).ok_or_else(|| LineError {
            line: line_of(content, "\"password\""),
            reason: "expected `password` as icoscp_core writes it, in hexadecimal digits"
                .to_owned(),
        })?;
        Ok(Self {
            fields,
            user: user_id,
            password,
        })
    }

    fn credentials(&self, envri: Envri) -> Credentials {
        let cookie = self.fields.0.get("cookie_value").and_then(Value::as_str);
        Credentials {
            user: self.user.clone(),
            password: SecretString::from(self.password.as_str()),
            // It is only a memory of the last login: one that cannot be read
            // is replaced by the next.
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
            // It was another's, or of another password.
            self.fields.0.remove("cookie_value");
        }
    }

    fn write(&self, file: &SecretFile, lock: &FileLock) -> Result<(), FileError> {
        let mut content = Zeroizing::new(Vec::with_capacity(16 << 10));
        serde_json::to_writer(&mut *content, &self.fields.0).map_err(|error| FileError::Io {
            path: file.path().to_owned(),
            action: "written",
            reason: error.to_string(),
        })?;
        file.replace(lock, &content)
    }
}

/// All fields, wiped when they are dropped.
#[derive(Default)]
struct Wiped(Map<String, Value>);

impl Drop for Wiped {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            if let Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}

/// The library's words for a flaw show what they found: it may be the
/// password.
fn flaw(error: &serde_json::Error) -> LineError {
    let reason = match error.classify() {
        serde_json::error::Category::Eof => "expected more, found the end",
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

fn revealed(hex: &str) -> Option<Zeroizing<String>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let mut password = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for &[high, low] in pairs {
        let byte = digit(high)? << 4 | digit(low)?;
        password.push(!u8::try_from(byte).ok()?);
    }
    let password = std::str::from_utf8(&password).ok()?;
    rest.is_empty().then(|| Zeroizing::new(password.to_owned()))
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
    fn passwords_are_obfuscated_as_the_python_library_does() {
        // PasswordAuth.encode_password("p\u{e5}ss w\u{f6}rd")
        assert_eq!(obfuscated("p\u{e5}ss w\u{f6}rd"), "8f3c5a8c8cdf883c498d9b");
        assert_eq!(
            *revealed("8F3c5a8c8cdf883c498d9b").unwrap(),
            "p\u{e5}ss w\u{f6}rd"
        );
        for bad in ["8", "8f3", "zz", "00", "\u{e5}"] {
            assert!(revealed(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_saved_is_read_and_strangers_keys_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        assert!(file.load().unwrap().is_none());
        let credentials = Credentials::new("a@b.se".to_owned(), SecretString::from("secret"));
        file.save(&credentials).await.unwrap();
        assert!(content(&file).get("cookie_value").is_none());

        let mut with_more = content(&file);
        with_more["theirs"] = serde_json::json!({"x": [1, 2]});
        fs::write(file.path(), with_more.to_string()).unwrap();
        let token = Arc::new(token(i64::from(i32::MAX) * 1000));
        let renewed = credentials.clone().with_token(Arc::clone(&token));
        file.renew(file.lock().await.unwrap(), renewed)
            .await
            .unwrap();
        assert_eq!(content(&file)["theirs"], with_more["theirs"]);
        assert_eq!(
            content(&file)["cookie_value"],
            format!("{};", token.cookie()),
            "as icoscp_core writes it"
        );
        let found = file.load().unwrap().unwrap();
        assert!(found.same_as(&credentials));
        assert!(found.token().unwrap().same_as(&token));
    }

    #[tokio::test]
    async fn a_token_is_not_kept_beside_credentials_that_did_not_give_it() {
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
        assert!(!file.path().exists(), "logged out meanwhile");
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_with_its_line_shown_nowhere_and_left_alone() {
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
            let place = format!("conf.json is damaged in line {line}:");
            assert!(message.contains(&place), "{damaged:?}: {message}");
            assert!(!message.contains("hunter2") && !message.contains("4711"));
            let credentials = Credentials::new(String::new(), SecretString::from(""));
            assert!(file.save(&credentials).await.is_err());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn a_file_open_to_others_is_tightened() {
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
