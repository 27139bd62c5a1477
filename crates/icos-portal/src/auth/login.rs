//! `POST <auth>/password/login`: exchanges a user name and a password for a
//! token.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, SET_COOKIE};
use secrecy::zeroize::Zeroizing;

use super::{AuthError, Credentials, Token};
use crate::http::{Http, Response};
use crate::{PortalError, Service, Services};

/// Timeout of a login. A blocked `read` may wait for it.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of attempts.
const MAX_ATTEMPTS: u32 = 2;

/// Logs in with `credentials`, and returns the token and how far the clock of the
/// portal is ahead of the local one. `source` names their source for display.
pub(super) async fn log_in(
    http: &Http,
    services: &Services,
    credentials: &Credentials,
    source: &str,
) -> Result<(Token, SignedDuration), AuthError> {
    let login = async {
        let response = post(http, services, credentials)
            .await
            .map_err(service_error)?;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => {
                return Err(AuthError::WrongPassword {
                    user: credentials.user().to_owned(),
                    source_name: source.to_owned(),
                });
            }
            _ => return Err(service_error(response.into_error("login").await)),
        }
        let now = Timestamp::now();
        let date = response
            .date()
            .and_then(|date| Timestamp::try_from(date).ok())
            .unwrap_or(now);
        Ok((token(services, &response)?, date.duration_since(now)))
    };
    // An error page is read after the request.
    tokio::time::timeout(TIMEOUT, login)
        .await
        .unwrap_or_else(|_elapsed| {
            Err(service_error(PortalError::TimedOut {
                service: Service::Auth,
                waited: TIMEOUT,
            }))
        })
}

fn service_error(error: PortalError) -> AuthError {
    AuthError::Service(Box::new(error))
}

async fn post(
    http: &Http,
    services: &Services,
    credentials: &Credentials,
) -> Result<Response, PortalError> {
    let form = form(credentials.user(), credentials.password());
    let request = http
        .request(
            Method::POST,
            services.url(Service::Auth, &["password", "login"]),
        )
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        // Zeroized after it was sent.
        .body(Bytes::from_owner(Zeroizing::new(form.into_bytes())));
    http.send_at_most(MAX_ATTEMPTS, TIMEOUT, Service::Auth, request)
        .await
}

fn form(user: &str, password: &str) -> String {
    // A byte becomes up to three. With the full capacity from the start, growing
    // leaves no copies of the password in memory.
    let form = String::with_capacity(20 + 3 * (user.len() + password.len()));
    url::form_urlencoded::Serializer::new(form)
        .append_pair("mail", user)
        .append_pair("password", password)
        .finish()
}

fn token(services: &Services, response: &Response) -> Result<Token, AuthError> {
    let name = services.envri().cookie_name();
    let cookie = response
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok()?.split(';').next())
        .find(|cookie| {
            let found = cookie.split_once('=');
            found.is_some_and(|(found, _)| found.trim() == name)
        })
        .ok_or_else(|| {
            let reason = format_args!("expected the cookie {name}, found none");
            service_error(PortalError::bad_response(Service::Auth, reason))
        })?;
    Ok(Token::parse(services.envri(), cookie)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_escapes_reserved_bytes() {
        let form = form("a@b.se", "p\u{e5}ss &w=rd+");
        assert_eq!(form, "mail=a%40b.se&password=p%C3%A5ss+%26w%3Drd%2B");
    }
}
