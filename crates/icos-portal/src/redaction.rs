//! Removes known secrets from texts that come from outside.
//!
//! A service, or a proxy before it, may repeat a request in its response: the
//! cookie, or the login form. Such a text must not reach a log or a status, which
//! other users may read. [`foreign_text`] is the only way for a text of a service
//! into an error.
//!
//! A secret is recognised by its pieces, so that one that is cut, split over lines
//! or encoded in part is removed, too: any [`PIECE`] consecutive symbols of one of
//! its encodings, compared without regard to case, white space and percent signs.
//! Hashes of the pieces are stored, and not the secrets.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::zeroize::Zeroizing;

use crate::error::sanitize;

/// How many consecutive symbols of a secret are recognised.
const PIECE: usize = 8;
/// Shorter secrets would be found in ordinary words. No service accepts them.
const MIN_LEN: usize = 4;
/// How many secrets are remembered: more than a process has at once.
const MAX_SECRETS: usize = 64;
/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

static KNOWN: LazyLock<Mutex<KnownSecrets>> = LazyLock::new(Mutex::default);

/// The pieces of known secrets.
#[derive(Default)]
struct KnownSecrets {
    hasher: RandomState,
    secrets: VecDeque<Pieces>,
}

/// The pieces of one secret.
struct Pieces {
    secret: u64,
    /// Symbols of a piece: fewer than [`PIECE`] if the secret is shorter.
    len: usize,
    hashes: HashSet<u64>,
}

/// Makes `secret` known, so that [`foreign_text`] removes it.
pub fn remember(secret: &str) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.add(secret);
}

/// Makes a text from outside safe to log and to print: without known secrets,
/// control characters and characters that change the text direction, on one line.
#[must_use]
pub fn foreign_text(text: &str) -> String {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let redacted = known.redact(text);
    drop(known);
    sanitize(&redacted)
}

impl KnownSecrets {
    fn add(&mut self, secret: &str) {
        let id = self.hasher.hash_one(secret);
        let known = self.secrets.iter().any(|pieces| pieces.secret == id);
        if secret.len() < MIN_LEN || known {
            return;
        }
        let encodings = encodings(secret).map(|encoding| symbols(&encoding));
        let len = encodings.iter().map(|symbols| symbols.len()).min();
        let len = len.unwrap_or(PIECE).clamp(MIN_LEN, PIECE);
        let hashes = encodings
            .iter()
            .flat_map(|symbols| symbols.windows(len))
            .map(|piece| self.hasher.hash_one(piece))
            .collect();
        self.secrets.push_back(Pieces {
            secret: id,
            len,
            hashes,
        });
        if self.secrets.len() > MAX_SECRETS {
            self.secrets.pop_front();
        }
    }

    fn redact(&self, text: &str) -> String {
        // Positions of the symbols that are compared.
        let (at, symbols): (Vec<usize>, Vec<u8>) = text
            .bytes()
            .enumerate()
            .filter_map(|(at, byte)| Some((at, symbol(byte)?)))
            .unzip();
        let mut secret = vec![false; text.len()];
        for len in MIN_LEN..=PIECE {
            let of_len: Vec<&Pieces> = self.secrets.iter().filter(|p| p.len == len).collect();
            if of_len.is_empty() {
                continue;
            }
            for (first, piece) in symbols.windows(len).enumerate() {
                let hash = self.hasher.hash_one(piece);
                if of_len.iter().any(|pieces| pieces.hashes.contains(&hash)) {
                    secret[at[first]..=at[first + len - 1]].fill(true);
                }
            }
        }
        let mut redacted = String::with_capacity(text.len());
        let mut inside = false;
        for (at, character) in text.char_indices() {
            let hidden = secret[at];
            if !hidden {
                redacted.push(character);
            } else if !inside {
                redacted.push_str(REDACTED);
            }
            inside = hidden;
        }
        redacted
    }
}

/// The symbol that a byte is compared as; `None` if it is passed over.
fn symbol(byte: u8) -> Option<u8> {
    let skipped = byte.is_ascii_whitespace() || byte.is_ascii_control() || byte == b'%';
    (!skipped).then(|| byte.to_ascii_lowercase())
}

fn symbols(text: &str) -> Zeroizing<Vec<u8>> {
    let mut symbols = Zeroizing::new(Vec::with_capacity(text.len()));
    symbols.extend(text.bytes().filter_map(symbol));
    symbols
}

/// The secret as it is, percent-encoded, in hexadecimal digits (plain and inverted,
/// as in the credentials file), and in base64 at each of the three offsets.
fn encodings(secret: &str) -> [Zeroizing<String>; 8] {
    let hex = |byte: &dyn Fn(u8) -> u8| -> String {
        let digits = b"0123456789abcdef";
        let symbols = |b: u8| [digits[usize::from(b >> 4)], digits[usize::from(b & 15)]];
        let bytes = secret.bytes().flat_map(|b| symbols(byte(b)));
        bytes.map(char::from).collect()
    };
    let base64 = |offset: usize| -> String {
        let mut bytes = Zeroizing::new(vec![0; offset]);
        bytes.extend_from_slice(secret.as_bytes());
        let text = Zeroizing::new(STANDARD_NO_PAD.encode(&*bytes));
        // The first and last symbols depend on the bytes around the secret.
        let first = (offset * 8).div_ceil(6);
        let last = bytes.len() * 8 / 6;
        text[first.min(last)..last].to_owned()
    };
    let form = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    [
        secret.to_owned(),
        form.replace('+', "%20"),
        form,
        hex(&|byte| byte),
        hex(&|byte| !byte),
        base64(0),
        base64(1),
        base64(2),
    ]
    .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse & battery";

    fn redacted(text: &str) -> String {
        let mut known = KnownSecrets::default();
        known.add(PASSWORD);
        known.add("hunter2");
        known.redact(text)
    }

    #[test]
    fn secret_is_removed_in_every_encoding() {
        let in_base64 = |before: &str| STANDARD_NO_PAD.encode(format!("{before}{PASSWORD}&x=1"));
        let percent = (PASSWORD.bytes()).flat_map(|b| format!("%{b:02X}").into_bytes());
        let percent: String = percent.map(char::from).collect();
        for text in [
            PASSWORD.to_owned(),
            "mail=a%40b.se&password=correct+horse+%26+battery".to_owned(),
            "correct%20horse%20%26%20battery".to_owned(),
            percent,
            in_base64(""),
            in_base64("a"),
            in_base64("ab"),
            "CORRECT HORSE".to_owned(),
            "corr\nect ho\r\n\trse".to_owned(),
            "password=hunter2;".to_owned(),
        ] {
            let clean = redacted(&format!("bad request: {text}"));
            assert!(clean.starts_with("bad request: "), "{clean}");
            assert!(clean.contains(REDACTED), "{text}: {clean}");
            for part in ["correct", "horse", "hunter", "y29ycmVj", "636f7272"] {
                let lower = clean.to_ascii_lowercase();
                assert!(!lower.contains(part), "{text}: {clean}");
            }
        }
    }

    #[test]
    fn other_text_is_unchanged() {
        for text in [
            "",
            "under moratorium until 2099",
            "K\u{F6}ln: the battery is low",
        ] {
            assert_eq!(redacted(text), text);
        }
        assert_eq!(
            redacted("K\u{F6}ln hunter2 K\u{F6}ln"),
            format!("K\u{F6}ln {REDACTED} K\u{F6}ln")
        );
    }

    #[test]
    fn oldest_secrets_are_forgotten() {
        let mut known = KnownSecrets::default();
        for number in 0..2 * MAX_SECRETS {
            known.add(&format!("secret number {number:08}"));
        }
        assert_eq!(known.secrets.len(), MAX_SECRETS);
        known.add("abc");
        assert_eq!(known.secrets.len(), MAX_SECRETS, "too short");
    }
}
