//! The folder of the cache, held open. Another folder that takes its path during a
//! mount is not used, and neither is a file in it that another user may have made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use icos_files::{SafeFolder, is_own_file};
use nix::fcntl::OFlag;
use nix::unistd::dup3;

use super::CacheError;
use super::layout::{CachePath, DATA, PARTIAL, SUMS};
use icos_sync::Mutex;

/// Where the kernel shows the open files of this process.
const DESCRIPTORS: &str = "/proc/self/fd";

/// The folder of the cache.
#[derive(Debug)]
pub(super) struct CacheRoot {
    /// Its path as the user named it.
    name: PathBuf,
    /// A path that leads to the open folder.
    path: PathBuf,
    /// Of the folder; of a pipe while there is no usable folder, so that nothing
    /// can be opened below it. Its number never changes. `None` if the process had
    /// no descriptor left at its start.
    descriptor: Mutex<Option<OwnedFd>>,
}

impl CacheRoot {
    /// Opens or creates the folder at `name` and the folders in it. Also returns why
    /// it cannot be used.
    pub(super) fn open(name: PathBuf) -> (Self, Result<(), CacheError>) {
        let descriptor = std::io::pipe()
            .ok()
            .map(|(reader, _)| OwnedFd::from(reader));
        let path = match &descriptor {
            Some(descriptor) => Path::new(DESCRIPTORS).join(descriptor.as_raw_fd().to_string()),
            // Nothing is below a file.
            None => PathBuf::from("/dev/null/none"),
        };
        let root = Self {
            name,
            path,
            descriptor: Mutex::new(descriptor),
        };
        let created = root.create_folders();
        (root, created)
    }

    /// Its path as the user named it, for messages.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// The path of the open folder, for access to its files.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder, and creates it if it does not exist or has been removed.
    /// Creates the folders in it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Io`] if other users can write to one of them, or can replace
    /// it, and if the disk fails.
    pub(super) fn create_folders(&self) -> Result<(), CacheError> {
        let failed = |error: io::Error| CacheError::io(&self.name, &error);
        if !self.is_open() {
            let folder = SafeFolder::private(&self.name, true).map_err(failed)?;
            let mut descriptor = self.descriptor.lock();
            if let Some(descriptor) = &mut *descriptor {
                dup3(&folder, descriptor, OFlag::O_CLOEXEC)
                    .map_err(|error| failed(error.into()))?;
            }
        }
        for name in [PARTIAL, SUMS] {
            create_private_dir(&self.path.join(name))?;
        }
        self.check_folders()
    }

    /// Whether the descriptor is of a folder that exists.
    fn is_open(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.is_dir() && found.nlink() > 0)
    }

    /// Fails if another user can write to a folder in this one, or has put it there.
    fn check_folders(&self) -> Result<(), CacheError> {
        let data = self.path.join(DATA);
        let formats = fs::read_dir(&data).into_iter().flatten().flatten();
        let fixed = [DATA, CachePath::DOCUMENTS, CachePath::CSV, CachePath::VIEWS];
        let folders = fixed.iter().map(|name| self.path.join(name));
        for folder in folders.chain(formats.map(|entry| entry.path())) {
            match SafeFolder::private(&folder, false) {
                Err(error)
                    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    return Err(CacheError::io(&folder, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Creates a folder with access for its owner only, and the missing ones above it.
///
/// # Errors
///
/// [`CacheError::Io`] if others can write to it, and if the disk fails.
pub(super) fn create_private_dir(path: &Path) -> Result<(), CacheError> {
    SafeFolder::private(path, true)
        .map(drop)
        .map_err(|error| CacheError::io(path, &error))
}

/// Opens a file of the cache. Removes a link, a pipe or a file of another user or
/// with another name first: the folder may have been open to others once.
pub(super) fn open_own(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let mut options = options.clone();
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let opened = options.open(path);
    let foreign = match &opened {
        Ok(file) => !is_own_file(&file.metadata()?),
        Err(error) => matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)),
    };
    if !foreign {
        return opened;
    }
    tracing::warn!(path = %display_path(path).display(), "removing a file from the cache that is not one of its own");
    fs::remove_file(path)?;
    options.open(path)
}

/// The path of a file in the cache as the user knows it.
pub(super) fn display_path(path: &Path) -> PathBuf {
    let Ok(below) = path.strip_prefix(DESCRIPTORS) else {
        return path.to_owned();
    };
    let mut below = below.components();
    let descriptor = below
        .next()
        .map(|number| Path::new(DESCRIPTORS).join(number));
    match descriptor.and_then(|link| fs::read_link(link).ok()) {
        Some(root) => root.join(below.as_path()),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::unistd::{Uid, chown, mkfifo};

    use super::*;

    fn read_write() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        options
    }

    #[test]
    fn file_left_by_another_user_is_replaced_and_its_target_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (other, path) = (dir.path().join("other"), dir.path().join("file"));
        fs::write(&other, "other").unwrap();
        let attacks: [&dyn Fn(); 4] = [
            &|| symlink(&other, &path).unwrap(),
            &|| fs::hard_link(&other, &path).unwrap(),
            &|| mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            &|| {
                fs::write(&path, "planted").unwrap();
                chown(&path, Some(Uid::from_raw(12_345)), None).expect("these tests run as root");
            },
        ];
        for attack in attacks {
            attack();
            let file = open_own(&read_write(), &path).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 0);
            file.set_len(3).unwrap();
            assert_eq!(
                open_own(&read_write(), &path)
                    .unwrap()
                    .metadata()
                    .unwrap()
                    .len(),
                3
            );
            fs::remove_file(&path).unwrap();
            assert_eq!(fs::read(&other).unwrap(), b"other");
        }
    }

    #[test]
    fn folder_that_takes_the_path_of_an_open_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let (root, created) = CacheRoot::open(cache.clone());
        created.unwrap();
        fs::rename(&cache, dir.path().join("moved")).unwrap();
        fs::create_dir_all(cache.join("partial")).unwrap();
        fs::write(root.path().join("partial/x"), "").unwrap();
        assert!(dir.path().join("moved/partial/x").exists() && !cache.join("partial/x").exists());
        assert_eq!(
            display_path(&root.path().join("a/b")),
            dir.path().join("moved/a/b")
        );
    }

    #[test]
    fn removed_folder_is_created_again_with_the_same_path() {
        let dir = tempfile::tempdir().unwrap();
        let (root, created) = CacheRoot::open(dir.path().join("cache"));
        created.unwrap();
        fs::remove_dir_all(dir.path().join("cache")).unwrap();
        root.create_folders().unwrap();
        fs::write(root.path().join("partial/x"), "").unwrap();
        assert!(dir.path().join("cache/partial/x").exists());
    }

    #[test]
    fn link_of_another_user_to_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::create_dir(&cache).unwrap();
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["partial", "dataAppStorage"] {
            symlink(dir.path().join("target"), cache.join(name)).unwrap();
            let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            let other = Some(Uid::from_raw(12_345));
            nix::unistd::fchownat(nix::fcntl::AT_FDCWD, &cache.join(name), other, None, flags)
                .unwrap();
            let (_, created) = CacheRoot::open(cache.clone());
            assert!(created.is_err(), "{name}");
            fs::remove_file(cache.join(name)).unwrap();
        }
        let (_, created) = CacheRoot::open(cache);
        created.unwrap();
    }
}
