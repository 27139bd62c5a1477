//! A provider of the logins that `icosfs login` stores: a token, or user name
//! and password.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::{
    AuthError, CredentialsFile, FileError, LoginState, PasswordAuth, Token, TokenAuth, TokenFile,
    TokenProvider,
};
use crate::Services;
use crate::http::Http;

/// Provides the login that is stored on this machine: the saved token until it
/// expires, else the credentials file of the Python library.
///
/// Either file may be missing, and may appear or disappear at any time.
#[derive(Debug)]
pub struct StoredAuth {
    saved: TokenAuth,
    credentials: PasswordAuth,
}

impl StoredAuth {
    /// Provides the login that is stored in either file.
    #[must_use]
    pub fn new(
        http: Http,
        services: Services,
        saved: TokenFile,
        credentials: CredentialsFile,
    ) -> Self {
        Self {
            saved: TokenAuth::from_file(saved, &services),
            credentials: PasswordAuth::from_file(http, services, credentials),
        }
    }

    /// Falls back to the credentials; returns `saved` if there are none.
    async fn credentials_or(
        &self,
        saved: Result<Arc<Token>, AuthError>,
    ) -> Result<Arc<Token>, AuthError> {
        match self.credentials.token().await {
            Err(error) if is_missing(&error) => match saved {
                Err(error) if is_missing(&error) => Err(AuthError::NotLoggedIn),
                saved => saved,
            },
            result => result,
        }
    }
}

impl TokenProvider for StoredAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            match self.saved.token().await {
                Ok(token) if !token.is_expired(Timestamp::now()) => Ok(token),
                saved => self.credentials_or(saved).await,
            }
        }
        .boxed()
    }

    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async move {
            let saved = self.saved.token().await;
            match saved {
                Ok(token) if token.same_as(&refused) => {
                    let saved = self.saved.replace(refused).await;
                    match saved {
                        Ok(token) => Ok(token),
                        refusal => self.credentials_or(refusal).await,
                    }
                }
                _ => self.credentials.replace(refused).await,
            }
        }
        .boxed()
    }

    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>> {
        async {
            let exists = |state: &LoginState| !state.problem.as_ref().is_some_and(is_missing);
            let saved = self.saved.login_state().await.filter(exists);
            let is_valid = |state: &LoginState| {
                let token = state.token.as_ref();
                state.problem.is_none()
                    && token.is_some_and(|token| !token.is_expired(Timestamp::now()))
            };
            if saved.as_ref().is_some_and(is_valid) {
                return saved;
            }
            self.credentials
                .login_state()
                .await
                .filter(exists)
                .or(saved)
        }
        .boxed()
    }
}

fn is_missing(error: &AuthError) -> bool {
    matches!(error, AuthError::File(FileError::Missing { .. }))
}
