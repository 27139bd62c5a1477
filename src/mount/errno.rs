//! Which errno a failure becomes. Every case is named, so that a new error
//! must be thought about here.

use fuser::Errno;

use crate::cache::CacheError;
use crate::catalog::CatalogError;
use crate::content::ContentError;
use crate::tree::TreeError;
use icos_portal::PortalError;
use icos_portal::auth::AuthError;

/// The errno of a failed read.
#[must_use]
pub fn of_content(error: &ContentError) -> Errno {
    match error {
        ContentError::Portal(error) => of_portal(error),
        ContentError::Cache(error) => of_cache(error),
        ContentError::Table(_)
        | ContentError::NotWritten(_)
        | ContentError::WrongMemory { .. }
        | ContentError::WrongHash { .. }
        | ContentError::WrongLength { .. } => Errno::EIO,
    }
}

/// The errno of a failed lookup or listing.
#[must_use]
pub fn of_tree(error: &TreeError) -> Errno {
    match error {
        TreeError::NoSuchName => Errno::ENOENT,
        TreeError::NotADirectory => Errno::ENOTDIR,
        TreeError::Catalog(error) => of_catalog(error),
    }
}

/// The errno of what the catalog does not say, or cannot keep.
#[must_use]
pub fn of_catalog(error: &CatalogError) -> Errno {
    match error {
        CatalogError::Portal(error) => of_portal(error),
        CatalogError::Database { .. } | CatalogError::NotKept { .. } => Errno::EIO,
    }
}

/// The errno of what the portal did not deliver.
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
        PortalError::Busy { .. } => Errno::EBUSY,
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
            // It is not the file that does not exist.
            errno if errno == Errno::ENOENT => Errno::EIO,
            errno => errno,
        },
    }
}

/// The errno of what the cache could not do.
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
        CacheError::Io { .. } | CacheError::Differs { .. } | CacheError::UnsafeName(_) => {
            Errno::EIO
        }
    }
}
