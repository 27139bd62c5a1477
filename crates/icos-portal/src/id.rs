//! Object ids: SHA-256 digests, complete or truncated, in the encodings that
//! the portal accepts (portal source: `Sha256Sum`).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

/// The id of a data object, document or collection: the first 18 bytes of a
/// SHA-256 digest, displayed as 24 base64url symbols.
///
/// ```
/// use icos_portal::ObjectId;
///
/// let id: ObjectId = "UNhY4JhezH9gQYqvDMWrWH9CwlcKiECVqejMrND2VFw".parse()?;
/// assert_eq!(id.to_string(), "UNhY4JhezH9gQYqvDMWrWH9C");
/// # Ok::<(), icos_portal::id::BadObjectId>(())
/// ```
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectId([u8; 18]);

impl ObjectId {
    /// Number of symbols in the displayed form.
    pub const SYMBOLS: usize = 24;

    /// Returns the id of an object with the content `bytes`.
    #[must_use]
    pub fn of_content(bytes: &[u8]) -> Self {
        Self::of_digest(&Sha256::digest(bytes).into())
    }

    /// Returns the id of an object whose complete SHA-256 digest is `digest`.
    #[must_use]
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let mut id = [0; 18];
        id.copy_from_slice(&digest[..18]);
        Self(id)
    }

    /// Returns the id that consists of `bytes`, as returned by
    /// [`ObjectId::as_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 18]) -> Self {
        Self(bytes)
    }

    /// Returns the id as bytes: the first 18 bytes of the SHA-256 digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 18] {
        &self.0
    }

    /// Returns whether `digest` begins with this id.
    ///
    /// ```
    /// use icos_portal::ObjectId;
    ///
    /// let digest = [7; 32];
    /// assert!(ObjectId::of_digest(&digest).matches(&digest));
    /// assert!(!ObjectId::of_digest(&digest).matches(&[8; 32]));
    /// ```
    #[must_use]
    pub fn matches(&self, digest: &[u8; 32]) -> bool {
        digest[..18] == self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut symbols = [0; Self::SYMBOLS];
        let len = URL_SAFE_NO_PAD
            .encode_slice(self.0, &mut symbols)
            .expect("18 bytes fill 24 symbols exactly");
        f.pad(std::str::from_utf8(&symbols[..len]).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// The text is not an object id.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected an object id (24 or 43 base64url symbols, or 36 or 64 hex digits), found {0:?}")]
pub struct BadObjectId(String);

impl FromStr for ObjectId {
    type Err = BadObjectId;

    /// Accepts 24, 43 or 44 symbols of base64 or base64url, or 36 or 64 hex
    /// digits.
    ///
    /// # Errors
    ///
    /// [`BadObjectId`] on any other length or symbol.
    fn from_str(text: &str) -> Result<Self, BadObjectId> {
        let decoded = match text.len() {
            24 | 43 => decode_base64(text),
            44 => text.strip_suffix('=').and_then(decode_base64),
            36 | 64 => decode_hex(text).map(|bytes| bytes.to_vec()),
            _ => None,
        };
        decoded
            .as_deref()
            .and_then(|bytes| bytes.get(..18)?.try_into().ok())
            .map(Self)
            .ok_or_else(|| BadObjectId(text.chars().take(80).collect()))
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()
}

/// Decodes pairs of hexadecimal digits, which may be a secret.
pub(crate) fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    // With the full capacity from the start, growing leaves no copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for &[high, low] in pairs {
        bytes.push(u8::try_from(digit(high)? << 4 | digit(low)?).ok()?);
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_of_a_digest_parses_to_the_same_id() {
        let digest: [u8; 32] = Sha256::digest(b"a").into();
        let id = ObjectId::of_digest(&digest);
        let hex = digest.map(|byte| format!("{byte:02x}")).concat();
        for text in [
            id.to_string(),
            URL_SAFE_NO_PAD.encode(digest),
            format!("{}=", URL_SAFE_NO_PAD.encode(digest)),
            STANDARD_NO_PAD.encode(digest),
            hex[..36].to_owned(),
            hex.to_uppercase(),
        ] {
            assert_eq!(text.parse(), Ok(id), "{text}");
        }
        assert!(id.matches(&digest));
    }

    #[test]
    fn parsing_another_text_fails() {
        for text in [
            "",
            "README.md",
            "not a base64 string 24 ch",
            "\u{e9}",
            "gggggggggggggggggggggggggggggggggggg",
        ] {
            assert!(text.parse::<ObjectId>().is_err(), "{text}");
        }
    }
}
