//! Seals: what follows the payload of each object in the store, and tells whether the
//! payload is what a machine of the cluster wrote there.
//!
//! A seal covers the name of the object in the store and the length of the whole file,
//! so that a valid payload under another name is refused. With a key it is an HMAC or the
//! signature of a writer, and proves the payload. Without one it is a checksum that
//! detects damage only.
//!
//! Input is untrusted: no bytes may panic, and none are returned before their seal is
//! checked.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
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
    /// With the signature of the machines that write.
    Signature(WriterSignature),
}

/// How objects are sealed, as it is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SealKind {
    Checksum = 0,
    Key = 1,
    Signature = 2,
}

/// The signature of the machines that write.
pub(super) struct WriterSignature {
    /// Absent on machines that only read.
    pair: Option<Arc<Ed25519KeyPair>>,
    public: UnparsedPublicKey<Vec<u8>>,
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
        "expected {expected}, found {found}: all machines need the same key, or keys of one pair (--shared-key-file)"
    )]
    OtherKind { expected: SealKind, found: SealKind },
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
            Self::Key(_) | Self::Signature(_) => true,
        }
    }

    /// Returns `payload` with its seal, and the digest of the payload. What a machine seals
    /// that only reads is refused by all.
    pub(super) fn seal(&self, label: SealLabel<'_>, payload: &[u8]) -> (Bytes, [u8; 32]) {
        let digest = digest_of(payload);
        let message = label.message(&digest);
        let mut sealed = BytesMut::with_capacity(payload.len() + SEAL_LEN);
        sealed.put_slice(payload);
        let mut tag = [0; TAG_LEN];
        match self {
            Self::Checksum => tag[..32].copy_from_slice(&digest_of(&message)),
            Self::Key(key) => tag[..32].copy_from_slice(hmac::sign(key, &message).as_ref()),
            Self::Signature(WriterSignature { pair, .. }) => {
                if let Some(pair) = pair {
                    tag.copy_from_slice(pair.sign(&message).as_ref());
                }
            }
        }
        sealed.put_slice(&tag);
        sealed.put_slice(&digest);
        sealed.put_u64(payload.len() as u64);
        sealed.put_u8(self.kind() as u8);
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
        let (expected, found) = (self.kind(), SealKind::of(kind).ok_or(BadSeal::NotSealed)?);
        if found != expected {
            return Err(BadSeal::OtherKind { expected, found });
        }
        let digest = digest_of(payload);
        let message = label.message(&digest);
        let (short, padding) = tag.split_at(32);
        let is_short = padding.iter().all(|&byte| byte == 0);
        let matches = match self {
            Self::Checksum => is_short && digest_of(&message) == short,
            Self::Key(key) => is_short && hmac::verify(key, &message, short).is_ok(),
            Self::Signature(WriterSignature { public, .. }) => public.verify(&message, tag).is_ok(),
        };
        if !matches || digest != stored_digest {
            return Err(BadSeal::Mismatch);
        }
        Ok(Unsealed {
            payload: sealed.slice(..len),
            digest,
        })
    }

    fn kind(&self) -> SealKind {
        match self {
            Self::Checksum => SealKind::Checksum,
            Self::Key(_) => SealKind::Key,
            Self::Signature(_) => SealKind::Signature,
        }
    }
}

impl SealKind {
    fn of(byte: u8) -> Option<Self> {
        let kinds = [Self::Checksum, Self::Key, Self::Signature];
        kinds.into_iter().find(|&kind| kind as u8 == byte)
    }
}

impl fmt::Display for SealKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "a checksum, as it is written without a key",
            Self::Key => "a seal with the cluster's key",
            Self::Signature => "the signature of a writer",
        })
    }
}

impl WriterSignature {
    /// Of a machine that writes.
    pub(super) fn of_writer(pair: Arc<Ed25519KeyPair>) -> Self {
        let public = pair.public_key().as_ref().to_vec();
        Self {
            pair: Some(pair),
            ..Self::of_reader(public)
        }
    }

    /// Of a machine that reads.
    pub(super) fn of_reader(public: Vec<u8>) -> Self {
        Self {
            pair: None,
            public: UnparsedPublicKey::new(&ED25519, public),
        }
    }
}

impl fmt::Debug for WriterSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterSignature").finish_non_exhaustive()
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
    use crate::cluster::key::ClusterKey;

    const LABEL: SealLabel<'static> = SealLabel {
        key: "v1/host/original/id/0",
        length: 5,
    };

    /// A writer's.
    fn signing(byte: u8) -> Seal {
        ClusterKey::pair_of(byte).0.into_seal()
    }

    fn keyed(byte: u8) -> Seal {
        Seal::Key(hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]))
    }

    #[test]
    fn sealed_payload_is_returned_with_its_digest() {
        for seal in [Seal::Checksum, keyed(1), signing(1)] {
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
        let (signed, _) = signing(1).seal(LABEL, b"bytes");
        let other = |expected, found| BadSeal::OtherKind { expected, found };
        let (key, signature) = (SealKind::Key, SealKind::Signature);
        let other_name = SealLabel {
            key: "v1/host/original/id/1",
            ..LABEL
        };
        let other_length = SealLabel { length: 6, ..LABEL };
        for (seal, label, sealed, expected) in [
            (keyed(1), other_name, &sealed, BadSeal::Mismatch),
            (keyed(1), other_length, &sealed, BadSeal::Mismatch),
            (keyed(2), LABEL, &sealed, BadSeal::Mismatch),
            (keyed(1), LABEL, &checksum, other(key, SealKind::Checksum)),
            (
                Seal::Checksum,
                LABEL,
                &sealed,
                other(SealKind::Checksum, key),
            ),
            (signing(1), LABEL, &sealed, other(signature, key)),
            (keyed(1), LABEL, &signed, other(key, signature)),
            (signing(1), other_name, &signed, BadSeal::Mismatch),
            (signing(1), other_length, &signed, BadSeal::Mismatch),
            (signing(2), LABEL, &signed, BadSeal::Mismatch),
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
            kind in 0..3_usize,
        ) {
            let seal = [Seal::Checksum, keyed(7), signing(7)].into_iter().nth(kind).unwrap();
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
            prop_assert!(signing(7).unseal(LABEL, &bytes.clone().into()).is_err());
            prop_assert!(Seal::Checksum.unseal(LABEL, &bytes.into()).is_err());
        }
    }
}
