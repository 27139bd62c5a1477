//! The secret of a server: a random text that each request must carry.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// Number of random bytes of a new secret.
const LEN: usize = 32;
/// The least and the greatest length of a given secret, in bytes.
const GIVEN_LEN: std::ops::RangeInclusive<usize> = 16..=256;

/// The secret of a server.
pub struct Secret(SecretString);

/// Why a text cannot be a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "expected a secret of 16 to 256 letters, digits and other visible ASCII characters, without spaces"
)]
pub struct BadSecret;

impl Secret {
    /// A new random secret.
    ///
    /// # Errors
    ///
    /// That of the operating system, if it has no random bytes.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; LEN];
        let mut filled = 0;
        while filled < LEN {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )?;
        }
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// Parses the content of a file: the secret, and perhaps a line break.
    ///
    /// # Errors
    ///
    /// [`BadSecret`].
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim_end_matches(['\r', '\n']);
        let is_valid =
            GIVEN_LEN.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        is_valid.then(|| Self(text.into())).ok_or(BadSecret)
    }

    /// The text, for a file that only its owner can read and for the owner's terminal.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `authorization`, the value of that header, carries the secret: as a bearer
    /// token, or as the password of any user (basic).
    pub(super) fn is_in(&self, authorization: &str) -> bool {
        let Some((scheme, value)) = authorization.split_once(' ') else {
            return false;
        };
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.equals(value.as_bytes());
        }
        let decoded = (scheme.eq_ignore_ascii_case("basic"))
            .then(|| STANDARD.decode(value).ok())
            .flatten();
        decoded.is_some_and(|decoded| {
            // A user name has no colon.
            let colon = decoded.iter().position(|&byte| byte == b':');
            colon.is_some_and(|colon| self.equals(&decoded[colon + 1..]))
        })
    }

    /// Compares hashes, so that the time tells nothing about the secret.
    fn equals(&self, given: &[u8]) -> bool {
        Sha256::digest(given) == Sha256::digest(self.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_a_bearer_token_or_the_password_of_any_user() {
        let secret = Secret::random().unwrap();
        let text = secret.expose().to_owned();
        let basic = |user: &str, password: &str| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        };
        for good in [
            format!("Bearer {text}"),
            format!("bearer  {text}"),
            basic("me", &text),
            basic("", &text),
        ] {
            assert!(secret.is_in(&good), "{good}");
        }
        for bad in [
            String::new(),
            text.clone(),
            format!("Bearer {text}x"),
            format!("Bearer {}", &text[1..]),
            "Bearer ".to_owned(),
            basic(&text, ""),
            basic("me", &text[1..]),
            format!("Basic {text}"),
            format!("Digest {text}"),
        ] {
            assert!(!secret.is_in(&bad), "{bad}");
        }
        assert_ne!(Secret::random().unwrap().expose(), text);
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn given_secret_is_long_and_has_no_spaces() {
        let parsed = Secret::parse("0123456789abcdef\n").unwrap();
        assert_eq!(parsed.expose(), "0123456789abcdef");
        for bad in [
            "",
            "short",
            "0123456789 abcdef",
            "0123456789abcdef\nx",
            "\u{e5}123456789abcdef",
        ] {
            assert_eq!(Secret::parse(bad).unwrap_err(), BadSecret, "{bad:?}");
        }
    }
}
