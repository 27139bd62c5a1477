//! The user's account: whether its token is accepted, and whether its owner
//! has accepted the data licence. Asks the authentication service alone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::COOKIE;
use serde::{Deserialize, Serialize};
use url::Url;

use super::auth::{AuthError, LoginState, TokenProvider};
use super::error::sanitize;
use super::http::Http;
use super::{PortalError, Service, Services};

mod status;

pub use status::LoginStatus;

/// How often a mount looks after its login.
const ROUND: Duration = Duration::from_mins(1);
/// Profiles are small.
const PROFILE_LIMIT: usize = 1 << 20;

/// The user's account.
#[derive(Clone, Debug)]
pub struct Account {
    http: Http,
    services: Services,
    auth: Arc<dyn TokenProvider>,
    /// As it was last seen.
    licence: Arc<Mutex<Option<LicenceStatus>>>,
}

/// Whether the user has accepted the data licence.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenceStatus {
    /// Data can be read.
    Accepted,
    /// Reading data fails until it is accepted on the portal's account page.
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
    /// The account that `auth` provides tokens of.
    #[must_use]
    pub fn new(http: Http, services: Services, auth: Arc<dyn TokenProvider>) -> Self {
        Self {
            http,
            services,
            auth,
            licence: Arc::default(),
        }
    }

    /// What is known of the login without asking the portal; `None` if there
    /// is none.
    pub async fn login_state(&self) -> Option<LoginState> {
        self.auth.login_state().await
    }

    /// The same for its owner's eyes.
    pub async fn status(&self) -> Option<LoginStatus> {
        let standing = self.login_state().await?;
        let (licence, now) = (self.licence(), Timestamp::now());
        Some(LoginStatus::new(standing, licence, now, self.page()))
    }

    /// Whether the licence was accepted when that was last asked.
    #[must_use]
    pub fn licence(&self) -> Option<LicenceStatus> {
        *self.licence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its owner finds it.
    #[must_use]
    pub fn page(&self) -> String {
        self.services.account_page()
    }

    /// The user's mail address, as the portal says: the token is accepted.
    pub async fn whoami(&self) -> Result<String, PortalError> {
        #[derive(Deserialize)]
        struct Whoami {
            email: String,
        }
        let url = self.services.url(Service::Auth, &["whoami"]);
        let json = self.ask("who is logged in", |_| url.clone()).await?;
        let whoami: Whoami = parsed(&json)?;
        Ok(sanitize(&whoami.email))
    }

    /// Asks whether the licence is accepted.
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
        let json = self.ask("the user's profile", profile).await?;
        let user: User = parsed(&json)?;
        let licence = if user.profile.icos_licence_ok {
            LicenceStatus::Accepted
        } else {
            LicenceStatus::NotAccepted
        };
        *self.licence.lock().unwrap_or_else(PoisonError::into_inner) = Some(licence);
        Ok(licence)
    }

    /// The JSON at the URL that `url` makes of the user's mail address. A
    /// refused token is replaced once.
    async fn ask(&self, what: &str, url: impl Fn(&str) -> Url) -> Result<Bytes, PortalError> {
        let mut token = self.auth.token().await?;
        let mut replaced = false;
        loop {
            let request = self
                .http
                .request(Method::GET, url(token.user()))
                .header(COOKIE, token.header());
            let answer = self
                .http
                .fetch(Service::Auth, request, PROFILE_LIMIT)
                .await?;
            match answer.status().as_u16() {
                200 => return answer.bytes(PROFILE_LIMIT).await,
                401 | 403 if !replaced => {
                    token = self.auth.replace(token).await?;
                    replaced = true;
                }
                _ => return Err(answer.into_error(what).await),
            }
        }
    }

    /// Looks after the login for as long as a mount lives: checks the licence
    /// at once, warns of what will make reads fail. Never ends.
    pub async fn monitor(self) {
        let mut told = Vec::new();
        loop {
            let warnings = self.warnings().await;
            // What goes on needs no repeating.
            for warning in warnings.iter().filter(|warning| !told.contains(*warning)) {
                tracing::warn!("{warning}");
            }
            told = warnings;
            tokio::time::sleep(ROUND).await;
        }
    }

    /// What will make reads fail, as of now.
    async fn warnings(&self) -> Vec<String> {
        let standing = self.login_state().await;
        let mut warnings = Vec::new();
        // A login that fails is for readers to try again, not for us.
        let works = standing.as_ref().is_some_and(|s| s.problem.is_none());
        if works && self.licence() != Some(LicenceStatus::Accepted) {
            match self.check_licence().await {
                Ok(LicenceStatus::NotAccepted) => warnings.push(format!(
                    "the data licence is not accepted: reading data will fail until you accept it in your profile at {}",
                    self.page()
                )),
                // Without a login there is nothing to warn of.
                Ok(LicenceStatus::Accepted) | Err(PortalError::Auth(AuthError::NotLoggedIn)) => {}
                Err(error) => {
                    warnings.push(format!("the data licence could not be checked: {error}"));
                }
            }
        }
        warnings.extend(standing.and_then(|s| s.warning(Timestamp::now(), &self.page())));
        warnings
    }
}

fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, PortalError> {
    serde_json::from_slice(json).map_err(|error| PortalError::bad_response(Service::Auth, error))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::Envri;
    use crate::auth::{Token, TokenAuth};
    use crate::http::Timeouts;

    /// It was, every minute of an outage of the authentication service.
    #[tokio::test]
    async fn a_warning_is_not_repeated_while_what_it_is_about_goes_on() {
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", dead.local_addr().unwrap());
        drop(dead);
        let services = Services::of(Envri::Icos).with(Service::Auth, &url).unwrap();
        let expires = Timestamp::now().as_millisecond() + 90_000_000;
        let text = STANDARD.encode(format!("[{expires},\"a@b.se\",\"Saml\"]\x1e123"));
        let token = Token::parse(Envri::Icos, &text).unwrap();
        let auth = TokenAuth::new(token, "a test".to_owned(), &services);
        let http = Http::new(Timeouts::of(Duration::from_secs(2))).unwrap();
        let account = Account::new(http, services, Arc::new(auth));
        let first = account.warnings().await;
        assert_eq!(first.len(), 1, "{first:?}");
        assert!(first[0].contains("could not be checked"), "{first:?}");
        assert_eq!(account.warnings().await, first);
    }
}
