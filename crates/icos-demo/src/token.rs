//! Login tokens: issued and checked as the auth service does (protocol page,
//! section 1), except that the signature is a keyed hash.

use std::hash::{BuildHasher as _, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Ends the JSON part of a token.
const SEPARATOR: u8 = 0x1E;

/// The content of a token.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Claims {
    pub(crate) mail: String,
    /// Milliseconds since the epoch.
    pub(crate) expiry: i64,
}

/// Signs and checks tokens.
#[derive(Clone)]
pub(crate) struct TokenIssuer {
    secret: [u8; 32],
}

impl TokenIssuer {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// An issuer with a random secret.
    pub(crate) fn random() -> Self {
        // The standard library seeds its hash maps from the system.
        let chance = || RandomState::new().hash_one(0).to_be_bytes();
        let seed: Vec<u8> = (0..4).flat_map(|_| chance()).collect();
        Self::new(Sha256::digest(seed).into())
    }

    /// Another issuer, for which this one's tokens are invalid.
    pub(crate) fn successor(&self) -> Self {
        Self::new(Sha256::digest(self.secret).into())
    }

    /// The value of a cookie, without the cookie's name.
    pub(crate) fn issue(&self, mail: &str, source: &str, expiry: i64) -> String {
        let claims = serde_json::json!([expiry, mail, source]).to_string();
        let mut token = claims.into_bytes();
        let signature = self.signature(&token);
        token.push(SEPARATOR);
        token.extend_from_slice(&signature);
        STANDARD.encode(token)
    }

    /// Reads the value of a cookie.
    ///
    /// # Errors
    ///
    /// The service's message if this issuer did not sign the token, or if it
    /// has expired at `now`.
    pub(crate) fn check(&self, value: &str, now: i64) -> Result<Claims, String> {
        let bad = |why: &str| format!("Failed to parse authentication token: {why}");
        let bare = value.trim_end_matches([';', '=']);
        let token = STANDARD_NO_PAD
            .decode(bare)
            .map_err(|e| bad(&e.to_string()))?;
        let end = token
            .windows(2)
            .position(|pair| pair == [b']', SEPARATOR])
            .ok_or_else(|| bad("Bad token, cannot read JSON array"))?
            + 1;
        let (expiry, mail, _source): (i64, String, String) = serde_json::from_slice(&token[..end])
            .map_err(|_| bad("Bad token, invalid JSON array"))?;
        if token[end + 1..] != self.signature(&token[..end]) {
            return Err("Authentication token's signature is invalid".to_owned());
        }
        if now >= expiry {
            return Err("Authentication token has expired".to_owned());
        }
        Ok(Claims { mail, expiry })
    }

    fn signature(&self, claims: &[u8]) -> Vec<u8> {
        let once = Sha256::new().chain_update(self.secret).chain_update(claims);
        let twice = Sha256::new()
            .chain_update(self.secret)
            .chain_update(once.finalize());
        twice.finalize().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_unexpired_tokens_are_accepted() {
        let issuer = TokenIssuer::new([1; 32]);
        let token = issuer.issue("a@b.se", "Password", 1000);
        let claims = Claims {
            mail: "a@b.se".to_owned(),
            expiry: 1000,
        };
        assert_eq!(issuer.check(&token, 999), Ok(claims));
        assert!(
            issuer.check(&format!("{token};"), 999).is_ok(),
            "icoscp_core's spelling"
        );
        assert!(issuer.check(&token, 1000).is_err());
        assert!(issuer.successor().check(&token, 999).is_err());
        let mut bytes = STANDARD.decode(&token).unwrap();
        bytes[1] = b'9';
        assert!(issuer.check(&STANDARD.encode(bytes), 999).is_err());
        assert!(issuer.check("nonsense", 999).is_err());
    }
}
