//! A provider of a token that only the user can renew: a fixed one, or one in a
//! file that the user replaces.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::login_file::{LoginFile, LoginSource};
use super::secret_file::{FileError, LineError, SecretFile};
use super::{AuthError, FILE_TTL, LoginState, REFUSAL_TTL, Renewal, Token, TokenProvider};
use crate::{Envri, Services};
use icos_sync::Mutex;

/// A file that contains a token and nothing else, in any form that
/// [`Token::parse`] accepts.
pub type TokenFile = LoginFile<Arc<Token>>;

impl LoginFile<Arc<Token>> {
    /// Names the file at `path` with a token of `envri`.
    #[must_use]
    pub fn at(path: PathBuf, envri: Envri) -> Self {
        Self::new(SecretFile::at(path), envri, |content, envri| {
            let text = std::str::from_utf8(content).unwrap_or_default();
            Token::parse(envri, text)
                .map(Arc::new)
                .map_err(|error| LineError {
                    line: 1,
                    reason: error.to_string(),
                })
        })
    }

    /// Replaces the content by `token`, readable by the owner only.
    pub async fn save(&self, token: &Token) -> Result<(), FileError> {
        let lock = self.lock().await?;
        self.file
            .replace(&lock, format!("{}\n", token.cookie()).as_bytes())
    }
}

/// Provides a token that only the user can renew.
///
/// Provides it even if it has expired by the local clock, because the clock of
/// the portal counts. A refused token is not sent again for a minute.
#[derive(Debug)]
pub struct TokenAuth {
    source: LoginSource<Arc<Token>>,
    page: String,
    refused: Mutex<Option<(Arc<Token>, Instant)>>,
}

impl TokenAuth {
    /// Provides `token`. `source` names its source for display.
    #[must_use]
    pub fn new(token: Token, source: String, services: &Services) -> Self {
        let (login, name) = (Arc::new(token), source);
        Self::of(LoginSource::Fixed { login, name }, services)
    }

    /// Provides the token in `file`, and reads it again when the file is
    /// replaced.
    #[must_use]
    pub fn from_file(file: TokenFile, services: &Services) -> Self {
        Self::of(LoginSource::File(file), services)
    }

    fn of(source: LoginSource<Arc<Token>>, services: &Services) -> Self {
        Self {
            source,
            page: services.account_page(),
            refused: Mutex::default(),
        }
    }

    async fn other_than(&self, refused: &Token) -> Result<Arc<Token>, AuthError> {
        let token = self.source.login(Duration::ZERO).await?;
        if token.same_as(refused) {
            Err(self.refusal(refused))
        } else {
            Ok(token)
        }
    }

    fn was_refused(&self, token: &Token) -> bool {
        let same = |(refused, at): &(Arc<Token>, Instant)| {
            refused.same_as(token) && at.elapsed() < REFUSAL_TTL
        };
        self.refused.lock().as_ref().is_some_and(same)
    }

    fn refusal(&self, token: &Token) -> AuthError {
        let (source_name, page) = (self.source.name(), self.page.clone());
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
}

impl TokenProvider for TokenAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            let token = self.source.login(FILE_TTL).await?;
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
                *self.refused.lock() = Some((refused, Instant::now()));
            }
            other
        }
        .boxed()
    }

    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>> {
        async {
            let (token, problem) = match self.source.login(FILE_TTL).await {
                Ok(token) => {
                    let refused = self.was_refused(&token).then(|| self.refusal(&token));
                    (Some(token), refused)
                }
                Err(error) => (None, Some(error.into())),
            };
            Some(LoginState {
                source: self.source.name(),
                user: token.as_ref().map(|token| token.user().to_owned()),
                token,
                renewal: Renewal::Manual,
                problem,
            })
        }
        .boxed()
    }
}
