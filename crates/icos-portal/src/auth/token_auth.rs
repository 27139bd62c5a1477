//! A token that nothing renews: given once, or in a file that the user
//! replaces.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::secret_file::{FileError, FileVersion, LineError, SecretFile};
use super::watched_file::{Source, WatchedFile};
use super::{AuthError, BELIEVED, BadToken, LoginState, Renewal, TIMEOUT, Token, TokenProvider};
use crate::{Envri, Services};

/// A file that holds a token and nothing else, in any of its spellings.
#[derive(Clone, Debug)]
pub struct TokenFile {
    file: SecretFile,
    envri: Envri,
}

impl TokenFile {
    /// The file at `path` with a token of `envri`.
    #[must_use]
    pub fn at(path: PathBuf, envri: Envri) -> Self {
        Self {
            file: SecretFile::at(path),
            envri,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What it holds; `None` if there is no such file. Blocks on the disk.
    pub fn load(&self) -> Result<Option<Arc<Token>>, FileError> {
        Ok(Source::load(self)?.map(|(token, _)| token))
    }

    /// Keeps `token` in it, for its owner's eyes alone.
    pub async fn save(&self, token: &Token) -> Result<(), FileError> {
        let lock = self.file.lock().await?;
        self.file
            .replace(&lock, format!("{}\n", token.cookie()).as_bytes())
    }

    /// Removes it; false if there was none.
    pub async fn remove(&self) -> Result<bool, FileError> {
        self.file.remove().await
    }
}

impl Source for TokenFile {
    type Value = Arc<Token>;

    fn stamp(&self) -> Result<Option<FileVersion>, FileError> {
        self.file.stamp()
    }

    fn load(&self) -> Result<Option<(Arc<Token>, FileVersion)>, FileError> {
        self.file.read(|content| {
            let flaw = |error: BadToken| LineError {
                line: 1,
                reason: error.to_string(),
            };
            let text = std::str::from_utf8(content).unwrap_or_default();
            Token::parse(self.envri, text).map(Arc::new).map_err(flaw)
        })
    }

    fn busy(&self) -> FileError {
        FileError::Busy {
            path: self.path().to_owned(),
        }
    }
}

/// Provides a token that nothing renews.
///
/// Whether it has expired is for the portal to say, whose clock counts; one
/// that it refused is not sent again for a minute.
#[derive(Debug)]
pub struct TokenAuth {
    origin: Origin,
    page: String,
    refused: Mutex<Option<(Arc<Token>, Instant)>>,
}

#[derive(Debug)]
enum Origin {
    Given { token: Arc<Token>, source: String },
    File(WatchedFile<TokenFile>),
}

impl TokenAuth {
    /// Provides `token`, which came from `source` (words for a person).
    #[must_use]
    pub fn new(token: Token, source: String, services: &Services) -> Self {
        let token = Arc::new(token);
        Self::of(Origin::Given { token, source }, services)
    }

    /// Provides the token in `file`, read again when it was replaced.
    #[must_use]
    pub fn from_file(file: TokenFile, services: &Services) -> Self {
        Self::of(Origin::File(WatchedFile::new(file)), services)
    }

    fn of(origin: Origin, services: &Services) -> Self {
        Self {
            origin,
            page: services.account_page(),
            refused: Mutex::default(),
        }
    }

    async fn at_hand(&self, believed: Duration) -> Result<Arc<Token>, AuthError> {
        match &self.origin {
            Origin::Given { token, .. } => Ok(Arc::clone(token)),
            Origin::File(watched) => {
                let missing = || FileError::Missing {
                    path: watched.source().path().to_owned(),
                };
                let token = watched.get_good(believed).await?;
                Ok(token.ok_or_else(missing)?)
            }
        }
    }

    async fn other_than(&self, refused: &Token) -> Result<Arc<Token>, AuthError> {
        let token = self.at_hand(Duration::ZERO).await?;
        if token.same_as(refused) {
            Err(self.refusal(refused))
        } else {
            Ok(token)
        }
    }

    fn was_refused(&self, token: &Token) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(refused, at): &(Arc<Token>, Instant)| {
            refused.same_as(token) && at.elapsed() < TIMEOUT
        };
        refused.as_ref().is_some_and(same)
    }

    fn refusal(&self, token: &Token) -> AuthError {
        let (source_name, page) = (self.source(), self.page.clone());
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

    fn source(&self) -> String {
        match &self.origin {
            Origin::Given { source, .. } => source.clone(),
            Origin::File(watched) => watched.source().path().display().to_string(),
        }
    }
}

impl TokenProvider for TokenAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            let token = self.at_hand(BELIEVED).await?;
            if self.was_refused(&token) {
                // Perhaps it was replaced a moment ago.
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
            let (token, problem) = match self.at_hand(BELIEVED).await {
                Ok(token) => {
                    let refused = self.was_refused(&token).then(|| self.refusal(&token));
                    (Some(token), refused)
                }
                Err(error) => (None, Some(error)),
            };
            Some(LoginState {
                source: self.source(),
                user: token.as_ref().map(|token| token.user().to_owned()),
                token,
                renewal: Renewal::ByHand,
                problem,
            })
        }
        .boxed()
    }
}
