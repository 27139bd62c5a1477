//! The cluster's key: a file with 32 random bytes, which every machine of a cluster has.

use std::path::Path;

use ring::hmac;
use secrecy::zeroize::Zeroizing;

use super::private_file::{self, PrivateFileError};
use super::seal::Seal;

/// What the file begins with: a name and the version of its format.
const PREFIX: &str = "icosfs-cluster-key-1 ";
const KEY_LEN: usize = 32;

/// A key that proves which bytes machines of the cluster wrote. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct ClusterKey(hmac::Key);

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file has other content.
    #[error("expected a key that `icosfs cluster init` wrote, found something else")]
    NotAKey,
}

impl ClusterKey {
    /// Reads the key in the file at `path`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if other users can read the file, or if it has no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let content = private_file::read(path)?;
        let text = std::str::from_utf8(&content).map_err(|_| KeyError::NotAKey)?;
        let digits = text.trim_end().strip_prefix(PREFIX);
        let digits = digits.ok_or(KeyError::NotAKey)?.as_bytes();
        if digits.len() != 2 * KEY_LEN {
            return Err(KeyError::NotAKey);
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let value = digit(pair[0]).zip(digit(pair[1]));
            let (high, low) = value.ok_or(KeyError::NotAKey)?;
            *byte = u8::try_from(high << 4 | low).map_err(|_| KeyError::NotAKey)?;
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*key)))
    }

    /// Writes a new key to a new file at `path`, which its owner alone can access.
    ///
    /// # Errors
    ///
    /// [`KeyError::File`] if there is a file already, or if it cannot be written.
    pub fn create(path: &Path) -> Result<(), KeyError> {
        use std::fmt::Write as _;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let mut filled = 0;
        while filled < KEY_LEN {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut key[filled..], flags)
                .map_err(|error| PrivateFileError::File(error.into()))?;
        }
        let mut text = Zeroizing::new(PREFIX.to_owned());
        text.reserve(2 * KEY_LEN + 1);
        for byte in key.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        private_file::create(path, text.as_bytes()).map_err(PrivateFileError::File)?;
        Ok(())
    }

    /// A key for tests.
    #[cfg(test)]
    pub(super) fn of(byte: u8) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &[byte; KEY_LEN]))
    }

    pub(super) fn into_seal(self) -> Seal {
        Seal::Key(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::{fs, io};

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
        assert!(
            matches!(again, KeyError::File(PrivateFileError::File(error))
            if error.kind() == io::ErrorKind::AlreadyExists)
        );
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
}
