//! The cluster's key: a file with a secret that every machine of a cluster has; or a pair
//! of files, one with the secret of the machines that write, one with the public key by
//! which all others prove what those wrote.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secrecy::zeroize::Zeroizing;

use super::private_file::{self, NewPrivateFile, PrivateFileError};
use super::seal::{Seal, WriterSignature};

/// What files begin with: a name and the version of the format.
const SHARED: &str = "icosfs-cluster-key-1 ";
const WRITER: &str = "icosfs-writer-key-1 ";
const PUBLIC: &str = "icosfs-public-key-1 ";
const KEY_LEN: usize = 32;

/// A key that proves which bytes machines of the cluster wrote. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct ClusterKey(KeyMaterial);

#[derive(Clone)]
enum KeyMaterial {
    /// Of all machines, which trust each other.
    Shared(hmac::Key),
    /// Of the machines that write.
    Writer(Arc<Ed25519KeyPair>),
    /// Of machines that read what those wrote.
    Public([u8; KEY_LEN]),
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shared(_) => "Shared",
            Self::Writer(_) => "Writer",
            Self::Public(_) => "Public",
        })
    }
}

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A new key would replace another file.
    #[error("{} exists; a key is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The file has other content.
    #[error("expected a key that `icosfs cluster init` wrote, found something else")]
    NotAKey,
}

impl ClusterKey {
    /// Reads the key in the file at `path`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if other users can read the file (write, if it is a public key), or if
    /// it has no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let content = private_file::read_if(path, |text| !text.starts_with(PUBLIC.as_bytes()))?;
        let text = std::str::from_utf8(&content).map_err(|_| KeyError::NotAKey)?;
        let text = text.trim_end();
        Ok(Self(if let Some(digits) = text.strip_prefix(SHARED) {
            let key = bytes_of(digits).ok_or(KeyError::NotAKey)?;
            KeyMaterial::Shared(hmac::Key::new(hmac::HMAC_SHA256, &*key))
        } else if let Some(digits) = text.strip_prefix(WRITER) {
            let seed = bytes_of(digits).ok_or(KeyError::NotAKey)?;
            let pair = Ed25519KeyPair::from_seed_unchecked(&*seed);
            KeyMaterial::Writer(Arc::new(pair.map_err(|_| KeyError::NotAKey)?))
        } else {
            let digits = text.strip_prefix(PUBLIC).ok_or(KeyError::NotAKey)?;
            KeyMaterial::Public(*bytes_of(digits).ok_or(KeyError::NotAKey)?)
        }))
    }

    /// Writes a new key of all machines to a new file at `path`, which its owner alone can
    /// access.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`], or [`KeyError::File`] if it cannot be written.
    pub fn create(path: &Path) -> Result<(), KeyError> {
        let text = line(SHARED, &*random()?);
        new_file(path, text.as_bytes(), 0o600).map(drop)
    }

    /// Writes a new key of the machines that write to a new file at `path`, which its owner
    /// alone can access, and its public key to one at `public`, which all can read.
    ///
    /// # Errors
    ///
    /// As [`ClusterKey::create`].
    pub fn create_pair(path: &Path, public: &Path) -> Result<(), KeyError> {
        let seed = random()?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeyError::NotAKey)?;
        let text = line(WRITER, &*seed);
        let secret = new_file(path, text.as_bytes(), 0o600)?;
        let text = line(PUBLIC, pair.public_key().as_ref());
        if let Err(error) = new_file(public, text.as_bytes(), 0o644) {
            // Half a pair is of no use.
            secret.remove();
            return Err(error);
        }
        Ok(())
    }

    /// Whether it proves what others wrote, and cannot seal.
    #[must_use]
    pub fn is_public(&self) -> bool {
        matches!(self.0, KeyMaterial::Public(_))
    }

    /// A key for tests.
    #[cfg(test)]
    pub(super) fn of(byte: u8) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[byte; KEY_LEN]);
        Self(KeyMaterial::Shared(key))
    }

    /// A writer's key and its public key for tests.
    #[cfg(test)]
    pub(super) fn pair_of(byte: u8) -> (Self, Self) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[byte; KEY_LEN]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (
            Self(KeyMaterial::Writer(Arc::new(pair))),
            Self(KeyMaterial::Public(public)),
        )
    }

    pub(super) fn into_seal(self) -> Seal {
        match self.0 {
            KeyMaterial::Shared(key) => Seal::Key(key),
            KeyMaterial::Writer(pair) => Seal::Signature(WriterSignature::of_writer(pair)),
            KeyMaterial::Public(public) => {
                Seal::Signature(WriterSignature::of_reader(public.to_vec()))
            }
        }
    }
}

fn new_file(path: &Path, content: &[u8], mode: u32) -> Result<NewPrivateFile, KeyError> {
    private_file::create(path, content, mode).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::File(PrivateFileError::File(error)),
    })
}

fn random() -> Result<Zeroizing<[u8; KEY_LEN]>, PrivateFileError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let mut filled = 0;
    while filled < KEY_LEN {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut key[filled..], flags)
            .map_err(|error| PrivateFileError::File(error.into()))?;
    }
    Ok(key)
}

/// The content of a file.
fn line(prefix: &str, key: &[u8]) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + 2 * key.len() + 1));
    text.push_str(prefix);
    for byte in key {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

/// The bytes of hex digits, if they are as many as a key has.
fn bytes_of(digits: &str) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let digits = digits.as_bytes();
    if digits.len() != 2 * KEY_LEN {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_LEN]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (high, low) = digit(pair[0]).zip(digit(pair[1]))?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;
    use crate::cluster::seal::SealLabel;

    #[test]
    fn key_is_created_once_private_and_different_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        ClusterKey::create(&one).unwrap();
        ClusterKey::create(&other).unwrap();
        let text = fs::read(&one).unwrap();
        assert_ne!(text, fs::read(&other).unwrap());
        assert_eq!(fs::metadata(&one).unwrap().mode() & 0o777, 0o600);
        let again = ClusterKey::create(&one).unwrap_err();
        assert!(matches!(again, KeyError::Exists(path) if path == one));
        assert_eq!(fs::read(&one).unwrap(), text);

        let label = SealLabel {
            key: "a",
            length: 1,
        };
        let seal = |path| ClusterKey::read(path).unwrap().into_seal();
        let (sealed, _) = seal(&one).seal(label, b"x");
        assert!(seal(&one).unseal(label, &sealed).is_ok());
        assert!(seal(&other).unseal(label, &sealed).is_err());
    }

    #[test]
    fn file_that_others_can_read_or_without_a_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        ClusterKey::create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = ClusterKey::read(&path).unwrap_err();
        let expected = KeyError::File(PrivateFileError::NotPrivate(0o640));
        assert_eq!(error.to_string(), expected.to_string());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in [
            "",
            "icosfs-cluster-key-1 ",
            "icosfs-cluster-key-1 zz",
            "\u{e9}",
        ] {
            let digits = if bad.ends_with("zz") {
                "zz".repeat(31)
            } else {
                String::new()
            };
            fs::write(&path, format!("{bad}{digits}\n")).unwrap();
            let error = ClusterKey::read(&path).unwrap_err();
            assert!(matches!(error, KeyError::NotAKey), "{bad}: {error}");
        }
    }

    #[test]
    fn public_key_proves_what_its_writer_sealed_and_seals_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        ClusterKey::create_pair(&path("writer"), &path("public")).unwrap();
        ClusterKey::create_pair(&path("other"), &path("other.pub")).unwrap();
        assert!(ClusterKey::create_pair(&path("new"), &path("public")).is_err());
        assert!(!path("new").exists(), "half a pair is of no use");
        let mode = |name: &str| fs::metadata(path(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("writer"), mode("public")), (0o600, 0o644));
        let read = |name: &str| ClusterKey::read(&path(name)).unwrap();
        assert!(read("public").is_public() && !read("writer").is_public());

        let label = SealLabel {
            key: "a",
            length: 1,
        };
        let [writer, public, other] = ["writer", "public", "other"].map(|n| read(n).into_seal());
        let (sealed, _) = writer.seal(label, b"x");
        for machine in [&writer, &public] {
            assert_eq!(machine.unseal(label, &sealed).unwrap().payload, b"x"[..]);
        }
        assert!(other.unseal(label, &sealed).is_err());
        let (forged, _) = public.seal(label, b"x");
        assert!(public.unseal(label, &forged).is_err());

        fs::set_permissions(path("public"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(
            ClusterKey::read(&path("public")).is_err(),
            "others could replace it"
        );
        fs::set_permissions(path("writer"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ClusterKey::read(&path("writer")).is_err());
    }
}
