//! The FUSE requests that a mount counts.

/// A kind of FUSE request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// LOOKUP of a name in a directory.
    Lookup,
    /// GETATTR.
    GetAttr,
    /// OPEN of a file.
    Open,
    /// READ.
    Read,
    /// OPENDIR.
    OpenDir,
    /// READDIR: names only.
    ReadDir,
    /// READDIRPLUS: names with attributes.
    ReadDirPlus,
    /// GETXATTR or LISTXATTR.
    Xattr,
    /// STATFS.
    StatFs,
}

impl Operation {
    /// All operations, in the order of their discriminants.
    pub(super) const ALL: [Operation; 9] = [
        Operation::Lookup,
        Operation::GetAttr,
        Operation::Open,
        Operation::Read,
        Operation::OpenDir,
        Operation::ReadDir,
        Operation::ReadDirPlus,
        Operation::Xattr,
        Operation::StatFs,
    ];

    /// The name in `status.json`, metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::Lookup => "lookup",
            Operation::GetAttr => "getattr",
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::OpenDir => "opendir",
            Operation::ReadDir => "readdir",
            Operation::ReadDirPlus => "readdirplus",
            Operation::Xattr => "xattr",
            Operation::StatFs => "statfs",
        }
    }
}
