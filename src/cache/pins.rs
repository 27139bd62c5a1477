//! Objects whose files are never evicted. Their ids are in one file of the cache folder,
//! a line each, which mounts read before each eviction and commands replace.
//!
//! The cache does not know ids: a pin is the first part of the names of an object's
//! files, before a `.` or `-`. The input is untrusted: other lines are ignored.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::cache_root::{create_private_dir, open_own};
use super::layout::CachePath;

/// The file with the pins.
const PINS: &str = "pins";
/// The file that is locked while they are changed.
const LOCK: &str = "pins.lock";
/// The file that replaces the one with the pins.
const NEW_PINS: &str = "pins.new";
/// How much of the file is read, and may be written: half a million pins.
const MAX_LEN: u64 = 16 << 20;

/// The pins of a cache folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pins(BTreeSet<String>);

impl Pins {
    /// The pins in the folder `root`; none if they cannot be read.
    pub(super) fn in_folder(root: &Path) -> Self {
        read(root).unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(%error, "cannot read which files of the cache are pinned");
            }
            Self::default()
        })
    }

    /// Changes the pins in the folder `root` by `change`, which returns a number.
    /// Blocks while another process changes them.
    ///
    /// # Errors
    ///
    /// If the pins cannot be read or written, or are too many.
    pub(super) fn change(
        root: &Path,
        change: impl FnOnce(&mut BTreeSet<String>) -> usize,
    ) -> io::Result<usize> {
        create_private_dir(root).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o600);
        let lock = open_own(&options, &root.join(LOCK))?;
        lock.lock()?;
        let mut pins = match read(root) {
            Err(error) if error.kind() == ErrorKind::NotFound => Self::default(),
            pins => pins?,
        };
        let changed = change(&mut pins.0);
        let lines = pins.0.iter().flat_map(|pin| [pin.as_str(), "\n"]);
        let text: String = lines.collect();
        if text.len() as u64 > MAX_LEN {
            return Err(io::Error::other("too many objects are pinned"));
        }
        let new = root.join(NEW_PINS);
        // Of a process that was killed.
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = options.create_new(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, root.join(PINS))?;
        Ok(changed)
    }

    /// Whether the file at `path` is pinned.
    #[must_use]
    pub fn include(&self, path: &CachePath) -> bool {
        let name = path.name().split('.').next().unwrap_or_default();
        // Pins are of one length: the last one that is not after the name is its
        // beginning, if any is.
        let pin = self
            .0
            .range::<str, _>((Bound::Unbounded, Bound::Included(name)))
            .next_back();
        pin.and_then(|pin| name.strip_prefix(pin.as_str()))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The pins, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn read(root: &Path) -> io::Result<Pins> {
    let mut text = String::new();
    let file = open_own(OpenOptions::new().read(true), &root.join(PINS))?;
    file.take(MAX_LEN).read_to_string(&mut text)?;
    let is_pin = |line: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !line.is_empty() && line.bytes().all(plain)
    };
    Ok(Pins(
        text.lines().filter(is_pin).map(str::to_owned).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_include_all_files_of_an_object_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let pin = |name: &str| {
            let name = name.to_owned();
            Pins::change(dir.path(), |pins| usize::from(pins.insert(name))).unwrap()
        };
        assert_eq!(
            (pin("abcd"), pin("-bc_"), pin("abcd"), pin("abce")),
            (1, 1, 0, 1)
        );
        let pins = Pins::in_folder(dir.path());
        assert_eq!(pins.iter().collect::<Vec<_>>(), ["-bc_", "abcd", "abce"]);
        for (name, pinned) in [
            ("abcd", true),
            ("abcd.cpb", true),
            ("abcd-0123.entry", true),
            ("-bc_.rows", true),
            ("abcde", false),
            ("abc", false),
            ("abcd_x", false),
            ("x.abcd", false),
        ] {
            let path = CachePath::new("netcdf", name).unwrap();
            assert_eq!(pins.include(&path), pinned, "{name}");
        }
        let cleared = Pins::change(dir.path(), |pins| std::mem::take(pins).len());
        assert_eq!(cleared.unwrap(), 3);
        assert_eq!(Pins::in_folder(dir.path()), Pins::default());
    }

    #[test]
    fn damaged_file_of_pins_has_only_its_valid_lines() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PINS), "../x\n\nabcd\na b\n").unwrap();
        assert_eq!(
            Pins::in_folder(dir.path()).iter().collect::<Vec<_>>(),
            ["abcd"]
        );
        fs::write(dir.path().join(PINS), b"abcd\n\xff").unwrap();
        assert_eq!(Pins::in_folder(dir.path()), Pins::default());
    }

    #[test]
    fn concurrent_changes_are_all_made() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let root = dir.path();
                let add = move || {
                    Pins::change(root, |pins| {
                        usize::from(pins.insert(format!("id_{number}")))
                    })
                };
                std::thread::Builder::new()
                    .spawn_scoped(scope, add)
                    .unwrap();
            }
        });
        assert_eq!(Pins::in_folder(dir.path()).iter().count(), 8);
    }
}
