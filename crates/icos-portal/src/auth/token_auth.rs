//! A provider of a token that only the user can renew: a fixed one, or one in a
//! file that the user replaces.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::secret_file::{FileError, FileVersion, LineError, SecretFile};
use super::watched_file::{ReloadableFile, WatchedFile};
use super::{
    AuthError, BadToken, FILE_TTL, LoginState, REFUSAL_TTL, Renewal, Token, TokenProvider,
};
use crate::{Envri, Services};

/// A file that contains a token and nothing else, in any form that
/// [`Token::parse`] accepts.
#[derive(Clone, Debug)]
pub struct TokenFile {
    file: SecretFile,
    envri: Envri,
}

impl TokenFile {
    /// Names the file at `path` with a token of `envri`.
    #[must_use]
    pub fn at(path: PathBuf, envri: Envri) -> Self {
        Self {
            file: SecretFile::at(path),
            envri,
        }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the token; `None` if there is no such file. Blocks on disk I/O.
    pub fn load(&self) -> Result<Option<Arc<Token>>, FileError> {
        Ok(ReloadableFile::load(self)?.map(|(token, _)| token))
    }

    /// Replaces the content by `token`, readable by the owner only.
    pub async fn save(&self, token: &Token) -> Result<(), FileError> {
        let lock = self.file.lock().await?;
        self.file
            .replace(&lock, format!("{}\n", token.cookie()).as_bytes())
    }

    /// Removes the file. Returns false if there was none.
    pub async fn remove(&self) -> Result<bool, FileError> {
        self.file.remove().await
    }
}

impl ReloadableFile for TokenFile {
    type Content = Arc<Token>;

    fn version(&self) -> Result<Option<FileVersion>, FileError> {
        self.file.version()
    }

    fn load(&self) -> Result<Option<(Arc<Token>, FileVersion)>, FileError> {
        self.file.read(|content| {
            let line_error = |error: BadToken| LineError {
                line: 1,
                reason: error.to_string(),
            };
            let text = std::str::from_utf8(content).unwrap_or_default();
            Token::parse(self.envri, text)
                .map(Arc::new)
                .map_err(line_error)
        })
    }

    fn busy(&self) -> FileError {
        FileError::Busy {
            path: self.path().to_owned(),
        }
    }
}

/// Provides a token that only the user can renew.
///
/// Provides it even if it has expired by the local clock, because the clock of
/// the portal counts. A refused token is not sent again for a minute.
#[derive(Debug)]
pub struct TokenAuth {
    source: TokenSource,
    page: String,
    refused: Mutex<Option<(Arc<Token>, Instant)>>,
}

#[derive(Debug)]
enum TokenSource {
    Fixed { token: Arc<Token>, name: String },
    File(WatchedFile<TokenFile>),
}

impl TokenAuth {
    /// Provides `token`. `source` names its source for display.
    #[must_use]
    pub fn new(token: Token, source: String, services: &Services) -> Self {
        let token = Arc::new(token);
        Self::of(
            TokenSource::Fixed {
                token,
                name: source,
            },
            services,
        )
    }

    /// Provides the token in `file`, and reads it again when the file is
    /// replaced.
    #[must_use]
    pub fn from_file(file: TokenFile, services: &Services) -> Self {
        Self::of(TokenSource::File(WatchedFile::new(file)), services)
    }

    fn of(source: TokenSource, services: &Services) -> Self {
        Self {
            source,
            page: services.account_page(),
            refused: Mutex::default(),
        }
    }

    async fn current_token(&self, max_age: Duration) -> Result<Arc<Token>, AuthError> {
        match &self.source {
            TokenSource::Fixed { token, .. } => Ok(Arc::clone(token)),
            TokenSource::File(watched) => {
                let missing = || FileError::Missing {
                    path: watched.file().path().to_owned(),
                };
                let token = watched.get_last_valid(max_age).await?;
                Ok(token.ok_or_else(missing)?)
            }
        }
    }

    async fn other_than(&self, refused: &Token) -> Result<Arc<Token>, AuthError> {
        let token = self.current_token(Duration::ZERO).await?;
        if token.same_as(refused) {
            Err(self.refusal(refused))
        } else {
            Ok(token)
        }
    }

    fn was_refused(&self, token: &Token) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(refused, at): &(Arc<Token>, Instant)| {
            refused.same_as(token) && at.elapsed() < REFUSAL_TTL
        };
        refused.as_ref().is_some_and(same)
    }

    fn refusal(&self, token: &Token) -> AuthError {
        let (source_name, page) = (self.source_name(), self.page.clone());
        if token.is_expired(Timestamp::now()) {
            AuthError::Expired {
                source_name,
                expired: token.expires(),
                page,
            }
        } else {
            AuthError::Refused { source_name, page }
        }
    }

    fn source_name(&self) -> String {
        match &self.source {
            TokenSource::Fixed { name, .. } => name.clone(),
            TokenSource::File(watched) => watched.file().path().display().to_string(),
        }
    }
}

impl TokenProvider for TokenAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            let token = self.current_token(FILE_TTL).await?;
            if self.was_refused(&token) {
                // The user may have replaced it just now.
                return self.other_than(&token).await;
            }
            Ok(token)
        }
        .boxed()
    }

    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async move {
            let other = self.other_than(&refused).await;
            if other.is_err() {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((refused, Instant::now()));
            }
            other
        }
        .boxed()
    }

    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>> {
        async {
            let (token, problem) = match self.current_token(FILE_TTL).await {
                Ok(token) => {
                    let refused = self.was_refused(&token).then(|| self.refusal(&token));
                    (Some(token), refused)
                }
                Err(error) => (None, Some(error)),
            };
            Some(LoginState {
                source: self.source_name(),
                user: token.as_ref().map(|token| token.user().to_owned()),
                token,
                renewal: Renewal::Manual,
                problem,
            })
        }
        .boxed()
    }
}
