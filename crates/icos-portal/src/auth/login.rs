//! `POST <auth>/password/login`: a token for a user name and a password.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, DATE, SET_COOKIE};
use secrecy::zeroize::Zeroizing;

use super::{AuthError, Credentials, Token};
use crate::http::{Http, Response};
use crate::{PortalError, Service, Services};

/// How long a login may take: someone's `read` waits for it.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A login that went astray is tried once more.
const LOGINS: u32 = 2;

/// A token just had.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) token: Token,
    /// How far the portal's clock is ahead of ours.
    pub(super) ahead: SignedDuration,
}

/// Logs in with `credentials` that came from `source` (words for a person).
pub(super) async fn log_in(
    http: &Http,
    services: &Services,
    credentials: &Credentials,
    source: &str,
) -> Result<Fresh, AuthError> {
    let login = async {
        let answer = post(http, services, credentials).await.map_err(service)?;
        match answer.status().as_u16() {
            200 => {}
            401 | 403 => {
                return Err(AuthError::WrongPassword {
                    user: credentials.user().to_owned(),
                    source_name: source.to_owned(),
                });
            }
            _ => return Err(service(answer.into_error("login").await)),
        }
        let now = Timestamp::now();
        let date = answer.header(&DATE).and_then(parsed_date).unwrap_or(now);
        Ok(Fresh {
            token: token(services, &answer)?,
            ahead: date.duration_since(now),
        })
    };
    tokio::time::timeout(TIMEOUT, login)
        .await
        .unwrap_or_else(|_late| {
            Err(service(PortalError::TimedOut {
                service: Service::Auth,
                waited: TIMEOUT,
            }))
        })
}

fn service(error: PortalError) -> AuthError {
    AuthError::Service(Box::new(error))
}

async fn post(
    http: &Http,
    services: &Services,
    credentials: &Credentials,
) -> Result<Response, PortalError> {
    let (user, password) = (credentials.user(), credentials.password());
    // Each byte becomes three at most; roomy from the start, so that growing
    // leaves no copies behind.
    let mut form = String::with_capacity(20 + 3 * (user.len() + password.len()));
    // Writing to a string cannot fail.
    let _ = write!(form, "mail={}&password=", encoded(user));
    let _ = write!(form, "{}", encoded(password));
    let request = http
        .request(
            Method::POST,
            services.url(Service::Auth, &["password", "login"]),
        )
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        // Wiped once it was sent.
        .body(Bytes::from_owner(Zeroizing::new(form.into_bytes())));
    http.send_at_most(LOGINS, Service::Auth, request).await
}

fn encoded(text: &str) -> impl std::fmt::Display {
    std::fmt::from_fn(move |f| {
        url::form_urlencoded::byte_serialize(text.as_bytes()).try_for_each(|part| f.write_str(part))
    })
}

fn parsed_date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text).ok()
}

fn token(services: &Services, answer: &Response) -> Result<Token, AuthError> {
    let name = services.envri().cookie_name();
    let cookie = answer
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
            service(PortalError::bad_response(Service::Auth, reason))
        })?;
    Ok(Token::parse(services.envri(), cookie)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(
            parsed_date("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some("1994-11-06T08:49:37Z".parse().unwrap())
        );
        assert_eq!(parsed_date("yesterday"), None);
    }

    #[test]
    fn forms_are_encoded() {
        let text = encoded("p\u{e5}ss &w=rd+").to_string();
        assert_eq!(text, "p%C3%A5ss+%26w%3Drd%2B");
    }
}
