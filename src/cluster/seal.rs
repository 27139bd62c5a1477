//! Seals: what follows the payload of each object in the store, and tells whether the
//! payload is what a machine of the cluster wrote there.
//!
//! A seal covers the name of the object in the store and the length of the whole file,
//! so that a valid payload under another name is refused. With a key it is an HMAC, and
//! proves the payload. Without one it is a checksum that detects damage only.
//!
//! Input is untrusted: no bytes may panic, and none are returned before their seal is
//! checked.

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::{digest, hmac};

/// The length of a seal in bytes.
pub(super) const SEAL_LEN: usize = 112;
/// The end of each sealed object: a name and the version of the format.
const MAGIC: &[u8; 7] = b"icosfs1";
const TAG_LEN: usize = 64;

/// How objects are sealed.
#[derive(Debug)]
pub(super) enum Seal {
    /// With a checksum.
    Checksum,
    /// With the cluster's key.
    Key(hmac::Key),
}

/// What a seal covers beside the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct SealLabel<'a> {
    /// The key of the object in the store.
    pub(super) key: &'a str,
    /// The length of the whole file in bytes.
    pub(super) length: u64,
}

/// A payload whose seal is intact.
#[derive(Clone, Debug)]
pub(super) struct Unsealed {
    pub(super) payload: Bytes,
    /// The SHA-256 digest of the payload.
    pub(super) digest: [u8; 32],
}

/// Why a sealed object is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BadSeal {
    #[error("expected a sealed object, found other bytes: it is truncated, or of another program")]
    NotSealed,
    #[error(
        "expected a seal with the cluster's key, found a checksum: it was written without --shared-key-file"
    )]
    WithoutKey,
    #[error(
        "expected a checksum, found a seal with a key: give the cluster's key with --shared-key-file"
    )]
    WithKey,
    #[error("expected a payload of {expected} bytes, found {found}")]
    Length { expected: u64, found: u64 },
    #[error(
        "its seal does not match: it is damaged, forged, of another object, or sealed with another key"
    )]
    Mismatch,
}

impl Seal {
    /// Whether a seal proves that a machine with the key wrote the payload.
    pub(super) fn proves(&self) -> bool {
        match self {
            Self::Checksum => false,
            Self::Key(_) => true,
        }
    }

    /// Returns `payload` with its seal, and the digest of the payload.
    pub(super) fn seal(&self, label: SealLabel<'_>, payload: &[u8]) -> (Bytes, [u8; 32]) {
        let digest = digest_of(payload);
        let message = label.message(&digest);
        let mut sealed = BytesMut::with_capacity(payload.len() + SEAL_LEN);
        sealed.put_slice(payload);
        let mut tag = [0; TAG_LEN];
        match self {
            Self::Checksum => tag[..32].copy_from_slice(&digest_of(&message)),
            Self::Key(key) => tag[..32].copy_from_slice(hmac::sign(key, &message).as_ref()),
        }
        sealed.put_slice(&tag);
        sealed.put_slice(&digest);
        sealed.put_u64(payload.len() as u64);
        sealed.put_u8(self.kind());
        sealed.put_slice(MAGIC);
        (sealed.freeze(), digest)
    }

    /// Returns the payload of `sealed`, if its seal matches.
    pub(super) fn unseal(&self, label: SealLabel<'_>, sealed: &Bytes) -> Result<Unsealed, BadSeal> {
        let len = sealed.len().checked_sub(SEAL_LEN);
        let len = len.ok_or(BadSeal::NotSealed)?;
        let (payload, seal) = sealed.split_at(len);
        let (tag, rest) = seal.split_at(TAG_LEN);
        let (stored_digest, rest) = rest.split_at(32);
        let (stored_len, rest) = rest.split_at(8);
        let (kind, magic) = (rest[0], &rest[1..]);
        if magic != MAGIC || stored_len != (len as u64).to_be_bytes() {
            return Err(BadSeal::NotSealed);
        }
        if kind != self.kind() {
            return Err(match self {
                Self::Checksum => BadSeal::WithKey,
                Self::Key(_) => BadSeal::WithoutKey,
            });
        }
        let digest = digest_of(payload);
        let message = label.message(&digest);
        let (tag, padding) = tag.split_at(32);
        let matches = match self {
            Self::Checksum => digest_of(&message) == tag,
            Self::Key(key) => hmac::verify(key, &message, tag).is_ok(),
        };
        if !matches || digest != stored_digest || padding.iter().any(|&byte| byte != 0) {
            return Err(BadSeal::Mismatch);
        }
        Ok(Unsealed {
            payload: sealed.slice(..len),
            digest,
        })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Checksum => 0,
            Self::Key(_) => 1,
        }
    }
}

impl SealLabel<'_> {
    /// What the tag is computed of.
    fn message(&self, digest: &[u8; 32]) -> Vec<u8> {
        let Self { key, length } = self;
        let mut message = format!("icosfs-shared-cache 1\n{key}\n{length}\n").into_bytes();
        message.extend_from_slice(digest);
        message
    }
}

/// The SHA-256 digest of `bytes`.
pub(super) fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    array
}

/// Hex digits of `bytes`.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: SealLabel<'static> = SealLabel {
        key: "v1/host/original/id/0",
        length: 5,
    };

    fn keyed(byte: u8) -> Seal {
        Seal::Key(hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]))
    }

    #[test]
    fn sealed_payload_is_returned_with_its_digest() {
        for seal in [Seal::Checksum, keyed(1)] {
            let (sealed, digest) = seal.seal(LABEL, b"bytes");
            let unsealed = seal.unseal(LABEL, &sealed).unwrap();
            assert_eq!(unsealed.payload, b"bytes"[..]);
            assert_eq!((unsealed.digest, digest), (digest, digest_of(b"bytes")));
        }
    }

    #[test]
    fn seal_of_another_name_length_key_or_kind_is_refused() {
        let (sealed, _) = keyed(1).seal(LABEL, b"bytes");
        let (checksum, _) = Seal::Checksum.seal(LABEL, b"bytes");
        let other_name = SealLabel {
            key: "v1/host/original/id/1",
            ..LABEL
        };
        let other_length = SealLabel { length: 6, ..LABEL };
        for (seal, label, sealed, expected) in [
            (keyed(1), other_name, &sealed, BadSeal::Mismatch),
            (keyed(1), other_length, &sealed, BadSeal::Mismatch),
            (keyed(2), LABEL, &sealed, BadSeal::Mismatch),
            (keyed(1), LABEL, &checksum, BadSeal::WithoutKey),
            (Seal::Checksum, LABEL, &sealed, BadSeal::WithKey),
            (Seal::Checksum, other_name, &checksum, BadSeal::Mismatch),
        ] {
            assert_eq!(seal.unseal(label, sealed).unwrap_err(), expected);
        }
    }

    proptest! {
        #[test]
        fn changed_or_truncated_sealed_bytes_are_refused(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
            cut in any::<prop::sample::Index>(),
            has_key in any::<bool>(),
        ) {
            let seal = if has_key { keyed(7) } else { Seal::Checksum };
            let (sealed, _) = seal.seal(LABEL, &payload);
            let mut flipped = sealed.to_vec();
            flipped[at.index(sealed.len())] ^= 1 << bit;
            prop_assert!(seal.unseal(LABEL, &flipped.into()).is_err());
            let truncated = sealed.slice(..cut.index(sealed.len()));
            prop_assert!(seal.unseal(LABEL, &truncated).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(keyed(7).unseal(LABEL, &bytes.clone().into()).is_err());
            prop_assert!(Seal::Checksum.unseal(LABEL, &bytes.into()).is_err());
        }
    }
}
