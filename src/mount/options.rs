//! Parameters of a mount. `cli` builds them from flags and settings.

use std::path::PathBuf;
use std::time::Duration;

use super::crawlers::Crawlers;
use icos_portal::Envri;

/// When a query of a size that is unknown returns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExactSize {
    /// When the exact size is known, whether the file is open or not. For programs
    /// that query the size first and then read that many bytes.
    Always,
    /// If the file is open, when the exact size is known, however long that takes; else
    /// at once, with an estimate. Correct for programs that query the size of the file
    /// that they have open.
    #[default]
    WhenOpen,
    /// At once, with an upper bound. For pipelines that must not wait.
    Never,
}

/// The greatest width of inode numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InodeWidth {
    /// 64 bits: the same number in every mount.
    #[default]
    Bits64,
    /// 32 bits, for programs that cannot use longer numbers.
    Bits32,
}

/// Which users may access a mount.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// Only the user that mounted it.
    #[default]
    Owner,
    /// Its owner and root.
    OwnerAndRoot,
    /// All users of the machine.
    Everyone,
}

/// Parameters of a mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Absolute path of the mount point.
    pub mountpoint: PathBuf,
    /// Device name in the output of `mount` and `df`, e.g. the portal's host.
    pub source: String,
    /// How long the kernel may cache metadata.
    pub metadata_ttl: Duration,
    /// When a query of a size that is unknown returns.
    pub exact_size: ExactSize,
    /// Which users may access the mount.
    pub access: Access,
    /// Owner of all files; by default the user of this process.
    pub uid: Option<u32>,
    /// Group of all files; by default the group of this process.
    pub gid: Option<u32>,
    /// The greatest width of inode numbers.
    pub inode_width: InodeWidth,
    /// Programs that may open only what is in the cache.
    pub crawlers: Crawlers,
    /// Whether files have extended attributes.
    pub xattr: bool,
    /// The repository that is mounted.
    pub envri: Envri,
}
