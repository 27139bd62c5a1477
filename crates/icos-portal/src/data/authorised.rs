//! Requests to the data service with the token of the user: refused tokens are
//! replaced, and refusals become errors.

use std::sync::Arc;

use reqwest::header::COOKIE;
use reqwest::{RequestBuilder, StatusCode};
use url::Url;

use super::DataClient;
use crate::account::Whoami;
use crate::auth::{AuthError, Token};
use crate::error::parse_json;
use crate::http::{Response, Retries};
use crate::{PortalError, Service};

/// Maximum length of the response of `whoami`, in bytes.
const MAX_WHOAMI: usize = 64 << 10;

impl DataClient {
    /// Requests `url` with the token of the user, and returns the response if its
    /// status is 200. `what` names the object in errors.
    pub(crate) async fn get(
        &self,
        what: &str,
        url: Url,
        retries: &mut Retries,
    ) -> Result<Response, PortalError> {
        let response = self.authorised(what, retries, || self.http.get(url.clone()));
        expect_ok(response.await?, what).await
    }

    /// Sends the request that `request` builds, with the token of the user if
    /// there is one, and converts refusals into errors. `what` names the object
    /// in these. A refused token is replaced once, even if it has not expired
    /// by the local clock.
    pub(crate) async fn authorised(
        &self,
        what: &str,
        retries: &mut Retries,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, PortalError> {
        // Some objects need no login, so without a token the request is sent
        // anyway.
        let mut token = match &self.auth {
            None => Err(None),
            Some(provider) => provider.token().await.map_err(Some),
        };
        let mut replaced = false;
        loop {
            let with_cookie = match &token {
                Ok(token) => request().header(COOKIE, token.header()),
                Err(_) => request(),
            };
            let response = self
                .http
                .send_within(retries, Service::Data, &with_cookie)
                .await?;
            let refusal = match self.check_refusal(response, what, &token).await {
                Ok(response) => return Ok(response),
                Err(refusal) => refusal,
            };
            match (&refusal, &token, &self.auth) {
                (PortalError::Unauthorized { .. }, Ok(refused), Some(provider)) if !replaced => {
                    tracing::info!(user = refused.user(), "the portal refused the token");
                    token = Ok(provider.replace(Arc::clone(refused)).await?);
                    replaced = true;
                }
                _ => return Err(refusal),
            }
        }
    }

    /// Returns `response` unless it is a refusal.
    async fn check_refusal(
        &self,
        mut response: Response,
        what: &str,
        token: &Result<Arc<Token>, Option<AuthError>>,
    ) -> Result<Response, PortalError> {
        let what = || what.to_owned();
        let status = response.status();
        let redirected = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
        if !redirected && !matches!(status.as_u16(), 401 | 403 | 404) {
            return Ok(response);
        }
        if status == StatusCode::NOT_FOUND {
            let reason = response.reason().await;
            let withheld = ["moratorium", "distributed", "policy", "third part"];
            let (what, is_withheld) = (what(), withheld.iter().any(|word| reason.contains(word)));
            return Err(if is_withheld {
                PortalError::Withheld { what, reason }
            } else {
                PortalError::NotFound { what, reason }
            });
        }
        let token = match token {
            Ok(token) => token,
            Err(None | Some(AuthError::NotLoggedIn)) => {
                return Err(PortalError::LoginRequired { what: what() });
            }
            Err(Some(error)) => return Err(error.clone().into()),
        };
        let licence = || PortalError::LicenceNotAccepted {
            page: self.services.account_page(),
        };
        if redirected {
            // The redirect leads to the licence page, also if the token is
            // invalid. `whoami` tells these two apart.
            return Err(if self.is_token_valid(token).await? {
                licence()
            } else {
                PortalError::Unauthorized { what: what() }
            });
        }
        let reason = response.reason().await;
        Err(match status {
            StatusCode::UNAUTHORIZED => PortalError::Unauthorized { what: what() },
            _ if reason.to_lowercase().contains("licence") => licence(),
            _ => PortalError::Withheld {
                what: what(),
                reason,
            },
        })
    }

    /// Whether the data service accepts `token`.
    async fn is_token_valid(&self, token: &Token) -> Result<bool, PortalError> {
        let url = self.services.url(Service::Data, &["whoami"]);
        let request = self.http.get(url).header(COOKIE, token.header());
        let response = self.http.fetch(Service::Data, request, MAX_WHOAMI).await?;
        let response = expect_ok(response, "whoami").await?;
        let body = response.bytes(MAX_WHOAMI).await?;
        let whoami: Whoami = parse_json(Service::Data, "the current user", &body)?;
        Ok(whoami.email.is_some())
    }
}

/// Returns `response` if its status is 200, else an error: `what` was requested.
pub(crate) async fn expect_ok(response: Response, what: &str) -> Result<Response, PortalError> {
    if response.status() == StatusCode::OK {
        Ok(response)
    } else {
        Err(response.into_error(what).await)
    }
}
