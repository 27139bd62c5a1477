//! Maps errors to errnos. Every match is exhaustive, so that a new error variant
//! does not compile until it has an errno here.

use fuser::Errno;

use crate::cache::CacheError;
use crate::catalog::CatalogError;
use crate::content::ContentError;
use crate::tree::TreeError;
use icos_portal::PortalError;
use icos_portal::auth::AuthError;

/// The name of `errno`, e.g. `EACCES`.
#[must_use]
pub fn name(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.code()))
}

/// Returns the errno of a failed read.
#[must_use]
pub fn of_content(error: &ContentError) -> Errno {
    match error {
        ContentError::Portal(error) => of_portal(error),
        ContentError::Cache(error) => of_cache(error),
        ContentError::Table(_)
        | ContentError::ParquetNotWritten(_)
        | ContentError::BuiltAgain
        | ContentError::WrongRecord { .. }
        | ContentError::WrongHash { .. }
        | ContentError::WrongLength { .. } => Errno::EIO,
    }
}

/// Returns the errno of a failed lookup or listing.
#[must_use]
pub fn of_tree(error: &TreeError) -> Errno {
    match error {
        TreeError::NoSuchName => Errno::ENOENT,
        TreeError::NameTooLong => Errno::ENAMETOOLONG,
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::Catalog(error) => of_catalog(error),
    }
}

/// Returns the errno of a failed query or update of the catalog.
#[must_use]
pub fn of_catalog(error: &CatalogError) -> Errno {
    match error {
        CatalogError::Portal(error) => of_portal(error),
        CatalogError::Database { .. } | CatalogError::NotStored { .. } => Errno::EIO,
    }
}

/// Returns the errno of a failed request to the portal.
#[must_use]
pub fn of_portal(error: &PortalError) -> Errno {
    match error {
        PortalError::LoginRequired { .. }
        | PortalError::Unauthorized { .. }
        | PortalError::LicenceNotAccepted { .. }
        | PortalError::Withheld { .. } => Errno::EACCES,
        PortalError::Auth(error) => of_auth(error),
        PortalError::NotFound { .. } => Errno::ENOENT,
        PortalError::TimedOut { .. } => Errno::ETIMEDOUT,
        PortalError::Unreachable { .. } => Errno::EHOSTUNREACH,
        PortalError::Busy { .. } | PortalError::OverLimit { .. } => Errno::EBUSY,
        PortalError::ConnectionLost { .. }
        | PortalError::Status { .. }
        | PortalError::BadResponse { .. } => Errno::EIO,
    }
}

fn of_auth(error: &AuthError) -> Errno {
    match error {
        AuthError::NotLoggedIn
        | AuthError::Expired { .. }
        | AuthError::Refused { .. }
        | AuthError::NewTokenRefused { .. }
        | AuthError::WrongPassword { .. }
        | AuthError::BadToken(_)
        | AuthError::File(_) => Errno::EACCES,
        AuthError::Service(error) => match of_portal(error) {
            // The missing resource is at the auth service: the file exists.
            errno if errno == Errno::ENOENT => Errno::EIO,
            errno => errno,
        },
    }
}

/// Returns the errno of a failed cache operation.
#[must_use]
pub fn of_cache(error: &CacheError) -> Errno {
    match error {
        CacheError::Io {
            errno: Some(errno), ..
        } if matches!(
            *errno,
            libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::EROFS
        ) =>
        {
            Errno::from_i32(*errno)
        }
        CacheError::TooSmall | CacheError::DiskFull { .. } => Errno::ENOSPC,
        CacheError::NoMemory(_) => Errno::ENOMEM,
        CacheError::DiskHangs { .. } => Errno::ETIMEDOUT,
        CacheError::Io { .. } | CacheError::ChecksumMismatch { .. } | CacheError::UnsafeName(_) => {
            Errno::EIO
        }
    }
}
