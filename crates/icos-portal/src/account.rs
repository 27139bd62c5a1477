//! The account of the user: whether the portal accepts its token, and whether
//! the user has accepted the data licence. Sends requests to the authentication
//! service only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::COOKIE;
use serde::{Deserialize, Serialize};
use url::Url;

use super::auth::{AuthError, LoginState, TokenProvider};
use super::error::parse_json;
use super::http::Http;
use super::redaction::foreign_text;
use super::{PortalError, Service, Services};
use icos_sync::Mutex;

mod status;

pub use status::LoginStatus;

/// Interval of the checks of [`Account::monitor`].
const MONITOR_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum length of a profile, in bytes.
const MAX_PROFILE: usize = 1 << 20;

/// The account of the user.
#[derive(Clone, Debug)]
pub struct Account {
    http: Http,
    services: Services,
    auth: Arc<dyn TokenProvider>,
    /// The result of the last check.
    licence: Arc<Mutex<Option<LicenceStatus>>>,
}

/// The response of the resource `whoami` of the authentication and data
/// services.
#[derive(Deserialize)]
pub(super) struct Whoami {
    /// The mail address of the user; absent without a valid token.
    pub(super) email: Option<String>,
}

/// Whether the user has accepted the data licence.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenceStatus {
    /// Accepted: data can be read.
    Accepted,
    /// Not accepted: reading data fails until the user accepts it on the
    /// account page.
    NotAccepted,
}

impl fmt::Display for LicenceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LicenceStatus::Accepted => "accepted",
            LicenceStatus::NotAccepted => "not accepted",
        })
    }
}

impl Account {
    /// Creates a client for the account whose tokens `auth` provides.
    #[must_use]
    pub fn new(http: Http, services: Services, auth: Arc<dyn TokenProvider>) -> Self {
        Self {
            http,
            services,
            auth,
            licence: Arc::default(),
        }
    }

    /// Returns what is known about the login without a request to the portal;
    /// `None` if there is no login.
    pub async fn login_state(&self) -> Option<LoginState> {
        self.auth.login_state().await
    }

    /// Returns the same in a form for display.
    pub async fn status(&self) -> Option<LoginStatus> {
        let state = self.login_state().await?;
        let (licence, now) = (self.licence(), Timestamp::now());
        Some(LoginStatus::new(state, licence, now, self.page()))
    }

    /// Returns the result of the last [`Account::check_licence`].
    #[must_use]
    pub fn licence(&self) -> Option<LicenceStatus> {
        *self.licence.lock()
    }

    /// Returns the URL of the account page.
    #[must_use]
    pub fn page(&self) -> String {
        self.services.account_page()
    }

    /// Returns the mail address of the user. Succeeds only if the portal
    /// accepts the token.
    pub async fn whoami(&self) -> Result<String, PortalError> {
        let url = self.services.url(Service::Auth, &["whoami"]);
        let json = self.get_json("the current user", |_| url.clone()).await?;
        let whoami: Whoami = parse_json(Service::Auth, "the current user", &json)?;
        let email = whoami.email.ok_or_else(|| {
            PortalError::bad_response(Service::Auth, "expected a mail address, found none")
        })?;
        Ok(foreign_text(&email))
    }

    /// Checks whether the licence is accepted.
    pub async fn check_licence(&self) -> Result<LicenceStatus, PortalError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Profile {
            icos_licence_ok: bool,
        }
        #[derive(Deserialize)]
        struct User {
            #[serde(default)]
            profile: Profile,
        }
        let profile = |user: &str| {
            let mut url = self.services.url(Service::Auth, &["db", "users", user]);
            url.query_pairs_mut().append_pair("keys", "{profile:1}");
            url
        };
        let json = self.get_json("the user's profile", profile).await?;
        let user: User = parse_json(Service::Auth, "the user's profile", &json)?;
        let licence = if user.profile.icos_licence_ok {
            LicenceStatus::Accepted
        } else {
            LicenceStatus::NotAccepted
        };
        *self.licence.lock() = Some(licence);
        Ok(licence)
    }

    /// Returns the JSON at the URL that `url` makes of the mail address of the
    /// user. Replaces a refused token once.
    async fn get_json(&self, what: &str, url: impl Fn(&str) -> Url) -> Result<Bytes, PortalError> {
        let mut token = self.auth.token().await?;
        let mut replaced = false;
        loop {
            let request = self.http.get(url(token.user()));
            let request = request.header(COOKIE, token.header());
            let response = self.http.fetch(Service::Auth, request, MAX_PROFILE).await?;
            match response.status().as_u16() {
                200 => return response.bytes(MAX_PROFILE).await,
                401 | 403 if !replaced => {
                    token = self.auth.replace(token).await?;
                    replaced = true;
                }
                _ => return Err(response.into_error(what).await),
            }
        }
    }

    /// Monitors the login, for the lifetime of a mount: checks the licence at
    /// once, and logs a warning if reads will fail. Never returns.
    pub async fn monitor(self) {
        let mut logged = Vec::new();
        loop {
            let warnings = self.warnings().await;
            // A warning is logged once for as long as its cause persists.
            for warning in warnings.iter().filter(|warning| !logged.contains(*warning)) {
                tracing::warn!("{warning}");
            }
            logged = warnings;
            tokio::time::sleep(MONITOR_INTERVAL).await;
        }
    }

    /// Returns the present reasons why reads will fail.
    async fn warnings(&self) -> Vec<String> {
        let state = self.login_state().await;
        let mut warnings = Vec::new();
        // A failed login is retried by reads, not here.
        let has_token = state.as_ref().is_some_and(|s| s.problem.is_none());
        if has_token && self.licence() != Some(LicenceStatus::Accepted) {
            match self.check_licence().await {
                Ok(LicenceStatus::NotAccepted) => warnings.push(format!(
                    "the data licence is not accepted: reading data fails until you accept it in your profile at {}",
                    self.page()
                )),
                // Without a login there is nothing to warn of.
                Ok(LicenceStatus::Accepted) | Err(PortalError::Auth(AuthError::NotLoggedIn)) => {}
                Err(error) => {
                    warnings.push(format!("could not check the data licence: {error}"));
                }
            }
        }
        warnings.extend(state.and_then(|s| s.warning(Timestamp::now(), &self.page())));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::Envri;
    use crate::auth::{Token, TokenAuth};
    use crate::http::Timeouts;

    /// Regression: an outage of the authentication service was logged every
    /// minute.
    #[tokio::test]
    async fn warnings_are_equal_while_their_cause_persists() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", closed.local_addr().unwrap());
        drop(closed);
        let services = Services::of(Envri::Icos).with(Service::Auth, &url).unwrap();
        let expires = Timestamp::now().as_millisecond() + 90_000_000;
        let text = STANDARD.encode(format!("[{expires},\"a@b.se\",\"Saml\"]\x1e123"));
        let token = Token::parse(Envri::Icos, &text).unwrap();
        let auth = TokenAuth::new(token, "a test".to_owned(), &services);
        let http = Http::new(Timeouts::of(Duration::from_secs(2))).unwrap();
        let account = Account::new(http, services, Arc::new(auth));
        let first = account.warnings().await;
        assert_eq!(first.len(), 1, "{first:?}");
        assert!(first[0].contains("could not check"), "{first:?}");
        assert_eq!(account.warnings().await, first);
    }
}
