//! The authentication token and the cookie that carries it.
//!
//! Form of a token, from the source of the `cpauth` service: padded standard
//! base64 of `[expiryMillis,"mail","Source"]`, the byte 0x1E and a signature.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use crate::Envri;
use crate::error::sanitize;
use crate::redaction::remember;

/// A token that is valid for longer than this is fresh: it needs no renewal.
const MIN_FRESH: Duration = Duration::from_hours(1);
/// A token that is valid for less than this counts as expired.
const MIN_VALID: Duration = Duration::from_secs(10);

/// Maximum length of a token: browsers accept no longer cookies, and servers no
/// longer headers.
const MAX_LEN: usize = 4096;

/// A login token: the user, the login method, the time of expiry, and the
/// cookie, which is secret: `Debug` does not show it.
///
/// ```
/// use icos_portal::Envri;
/// use icos_portal::auth::Token;
/// # use base64::Engine as _;
/// # let text = [br#"[1700000000000,"me@example.org","Saml"]"#, &b"\x1esignature"[..]].concat();
/// # let text = base64::engine::general_purpose::STANDARD.encode(text);
///
/// // `text` is a copy of the token on the page My Account.
/// let token = Token::parse(Envri::Icos, &text)?;
/// assert_eq!(token.user(), "me@example.org");
/// assert_eq!(token.expires().as_second(), 1_700_000_000);
/// assert!(token.is_expired(jiff::Timestamp::now()));
/// assert_eq!(token.cookie(), format!("cpauthToken={text}"));
/// # Ok::<(), icos_portal::auth::BadToken>(())
/// ```
#[derive(Clone, Debug)]
pub struct Token {
    user: String,
    source: String,
    expires: Timestamp,
    cookie: SecretString,
}

/// The text is not an authentication token. The message does not contain the
/// text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected a token such as `{cookie}=...` from the portal's My Account page, found {found}")]
pub struct BadToken {
    cookie: &'static str,
    found: &'static str,
}

impl Token {
    /// Parses `text`: the token with or without the name of its cookie before
    /// it and a `;` after it.
    ///
    /// # Errors
    ///
    /// [`BadToken`] if it is not a token, or is one of another repository.
    pub fn parse(envri: Envri, text: &str) -> Result<Self, BadToken> {
        let cookie = envri.cookie_name();
        let bad = |found| BadToken { cookie, found };
        let text = text.trim().trim_end_matches(';').trim_end();
        let value = match text.split_once('=') {
            Some((name, value)) if name == cookie => value,
            Some((name, _)) if Envri::ALL.iter().any(|e| e.cookie_name() == name) => {
                return Err(bad("the cookie of another repository"));
            }
            _ => text,
        };
        if value.len() > MAX_LEN {
            return Err(bad(
                "one that is longer than a browser accepts (4096 bytes)",
            ));
        }
        let decoded = STANDARD
            .decode(value)
            .map_err(|_| bad("something that is not base64"))?;
        let claims = decoded
            .split(|&byte| byte == 0x1e)
            .next()
            .filter(|claims| claims.len() < decoded.len())
            .ok_or_else(|| bad("base64 without a signature"))?;
        let (millis, user, source): (i64, String, String) = serde_json::from_slice(claims)
            .map_err(|_| bad("base64 without expiry time, user and source"))?;
        // They are printed on terminals.
        if [&user, &source].iter().any(|text| sanitize(text) != **text) {
            return Err(bad("a user's name with control characters"));
        }
        Ok(Self {
            user,
            source,
            expires: Timestamp::from_millisecond(millis)
                .map_err(|_| bad("an expiry time out of range"))?,
            cookie: {
                remember(value);
                SecretString::from(format!("{cookie}={value}"))
            },
        })
    }

    /// Returns the mail address of the user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the login method: `Password`, `Saml`, `Orcid`, ...
    #[must_use]
    pub fn login_method(&self) -> &str {
        &self.source
    }

    /// Returns the time of expiry.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Returns whether it is valid for more than an hour.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.expires.duration_since(now) > signed(MIN_FRESH)
    }

    /// Returns whether it is valid for less than ten seconds.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.duration_since(now) < signed(MIN_VALID)
    }

    /// Returns the secret as the cookie `name=value`. Must not be logged.
    #[must_use]
    pub fn cookie(&self) -> &str {
        self.cookie.expose_secret()
    }

    /// Returns the cookie as the value of a header that is hidden from logs.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut header = HeaderValue::from_str(self.cookie())
            .expect("a cookie's name and base64 are plain ASCII");
        header.set_sensitive(true);
        header
    }

    /// Returns whether both are the same token.
    #[must_use]
    pub fn same_as(&self, other: &Token) -> bool {
        self.cookie() == other.cookie()
    }
}

fn signed(span: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn encoded(claims: &str) -> String {
        let mut bytes = claims.as_bytes().to_vec();
        bytes.extend([0x1e, 1, 2, 3]);
        STANDARD.encode(bytes)
    }

    /// A token that expires at `millis`.
    pub(crate) fn token(millis: i64) -> Token {
        let claims = format!(r#"[{millis},"a@b.se","Saml"]"#);
        Token::parse(Envri::Icos, &encoded(&claims)).unwrap()
    }

    #[test]
    fn parse_accepts_every_form_of_a_token() {
        let value = encoded(r#"[1700000000000,"a@b.se","Saml"]"#);
        for text in [
            value.clone(),
            format!("cpauthToken={value}"),
            format!(" cpauthToken={value};\n"),
            format!("{value};"),
        ] {
            let token = Token::parse(Envri::Icos, &text).unwrap();
            assert_eq!(token.user(), "a@b.se");
            assert_eq!(token.login_method(), "Saml");
            assert_eq!(token.cookie(), format!("cpauthToken={value}"));
            assert_eq!(token.expires().as_millisecond(), 1_700_000_000_000);
        }
    }

    #[test]
    fn parse_errors_do_not_contain_the_text() {
        let value = encoded(r#"[1700000000000,"a@b.se","Saml"]"#);
        for text in [
            String::new(),
            "hunter2!".to_owned(),
            STANDARD.encode("no separator"),
            encoded("[]"),
            encoded(r#"[9223372036854775807,"a","b"]"#),
            encoded(r#"[1700000000000,"\u001b[2Ja@b.se","Saml"]"#),
            format!("fieldsitesToken={value}"),
            encoded(&format!(r#"[1700000000000,"{}","b"]"#, "a".repeat(4096))),
        ] {
            let error = Token::parse(Envri::Icos, &text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(&text), "{error}");
        }
    }

    #[test]
    fn freshness_and_expiry_use_the_margins_of_the_python_library() {
        let token = Token::parse(Envri::Icos, &encoded(r#"[1700000000000,"a","b"]"#)).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 - seconds).unwrap();
        assert!(token.is_fresh(at(3601)) && !token.is_fresh(at(3600)));
        assert!(!token.is_expired(at(10)) && token.is_expired(at(9)));
    }

    #[test]
    fn debug_output_does_not_contain_the_cookie() {
        let value = encoded(r#"[1700000000000,"a","b"]"#);
        let token = Token::parse(Envri::Icos, &value).unwrap();
        assert!(!format!("{token:?}").contains(&value));
    }
}
