//! Logging in with user name and password.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, SET_COOKIE};
use secrecy::{ExposeSecret as _, SecretString};
use url::form_urlencoded;

use super::{AuthError, Token, TokenProvider};
use crate::flight::Flights;
use crate::portal::http::Http;
use crate::portal::{PortalError, Service, Services};

/// Logs in when a token is needed, and again before it expires.
#[derive(Debug)]
pub struct PasswordAuth {
    login: Arc<Login>,
    token: Arc<Mutex<Option<Arc<Token>>>>,
    /// However many readers find the token stale, one login follows.
    logins: Flights<(), Result<Arc<Token>, AuthError>>,
}

#[derive(Debug)]
struct Login {
    http: Http,
    services: Services,
    user: String,
    password: SecretString,
    source: String,
}

impl PasswordAuth {
    /// Provides tokens for `user`, whose password came from `source` (words
    /// for a person). Asks the portal for nothing yet.
    #[must_use]
    pub fn new(
        http: Http,
        services: Services,
        user: String,
        password: SecretString,
        source: String,
    ) -> Self {
        Self {
            login: Arc::new(Login {
                http,
                services,
                user,
                password,
                source,
            }),
            token: Arc::default(),
            logins: Flights::default(),
        }
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn log_in(&self) -> Result<Arc<Token>, AuthError> {
        let (login, slot) = (Arc::clone(&self.login), Arc::clone(&self.token));
        self.logins
            .join((), || async move {
                let token = Arc::new(login.run().await?);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                Ok(token)
            })
            .await
    }
}

impl TokenProvider for PasswordAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            match self.current() {
                Some(token) if token.is_fresh(Timestamp::now()) => Ok(token),
                _ => self.log_in().await,
            }
        }
        .boxed()
    }

    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async move {
            match self.current() {
                // Another reader has replaced it already.
                Some(token) if !token.same_as(&refused) => Ok(token),
                _ => self.log_in().await,
            }
        }
        .boxed()
    }

    fn source(&self) -> String {
        self.login.source.clone()
    }
}

impl Login {
    /// `POST <auth>/password/login`.
    async fn run(&self) -> Result<Token, AuthError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("mail", &self.user)
            .append_pair("password", self.password.expose_secret())
            .finish();
        let url = self.services.url(Service::Auth, &["password", "login"]);
        let request = self
            .http
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let failed = |error: PortalError| AuthError::Service(error.to_string());
        let answer = self
            .http
            .send(Service::Auth, request)
            .await
            .map_err(failed)?;
        match answer.status().as_u16() {
            200 => {}
            401 | 403 => {
                return Err(AuthError::WrongPassword {
                    user: self.user.clone(),
                    source_name: self.source.clone(),
                });
            }
            _ => return Err(failed(answer.into_error("login").await)),
        }
        let cookie = answer
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|header| header.to_str().ok()?.split(';').next())
            .find(|cookie| {
                let name = self.services.envri().cookie_name();
                cookie.trim_start().starts_with(&format!("{name}="))
            })
            .ok_or_else(|| {
                AuthError::Service("the authentication service sent no token".to_owned())
            })?;
        Ok(Token::parse(self.services.envri(), cookie)?)
    }
}
