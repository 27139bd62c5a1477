//! Maps errors to HTTP statuses. Every match is exhaustive, so that a new error variant
//! does not compile until it has a status here.
//!
//! 401 is for the server's own secret only: what the portal refuses is 403, since no
//! other password would help.

use hyper::StatusCode;

use crate::cache::CacheError;
use crate::catalog::CatalogError;
use crate::content::ContentError;
use crate::tree::TreeError;
use icos_portal::PortalError;
use icos_portal::auth::AuthError;

/// Returns the status of a failed read.
#[must_use]
pub fn of_content(error: &ContentError) -> StatusCode {
    match error {
        ContentError::Portal(error) => of_portal(error),
        ContentError::Cache(error) => of_cache(error),
        ContentError::WrongHash { .. } | ContentError::WrongLength { .. } => {
            StatusCode::BAD_GATEWAY
        }
        ContentError::Table(_)
        | ContentError::ParquetNotWritten(_)
        | ContentError::BuiltAgain
        | ContentError::WrongRecord { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the status of a failed lookup or listing.
#[must_use]
pub fn of_tree(error: &TreeError) -> StatusCode {
    match error {
        TreeError::NoSuchName | TreeError::NameTooLong | TreeError::NotADirectory => {
            StatusCode::NOT_FOUND
        }
        TreeError::Catalog(error) => of_catalog(error),
    }
}

/// Returns the status of a failed query or update of the catalog.
#[must_use]
pub fn of_catalog(error: &CatalogError) -> StatusCode {
    match error {
        CatalogError::Portal(error) => of_portal(error),
        CatalogError::Database { .. } | CatalogError::NotStored { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Returns the status of a failed request to the portal.
#[must_use]
pub fn of_portal(error: &PortalError) -> StatusCode {
    match error {
        PortalError::LoginRequired { .. }
        | PortalError::Unauthorized { .. }
        | PortalError::LicenceNotAccepted { .. }
        | PortalError::Withheld { .. } => StatusCode::FORBIDDEN,
        PortalError::Auth(error) => of_auth(error),
        PortalError::NotFound { .. } => StatusCode::NOT_FOUND,
        PortalError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        PortalError::Busy { .. } | PortalError::OverLimit { .. } => StatusCode::SERVICE_UNAVAILABLE,
        PortalError::Unreachable { .. }
        | PortalError::ConnectionLost { .. }
        | PortalError::Status { .. }
        | PortalError::BadResponse { .. } => StatusCode::BAD_GATEWAY,
    }
}

fn of_auth(error: &AuthError) -> StatusCode {
    match error {
        AuthError::NotLoggedIn
        | AuthError::Expired { .. }
        | AuthError::Refused { .. }
        | AuthError::NewTokenRefused { .. }
        | AuthError::WrongPassword { .. }
        | AuthError::BadToken(_)
        | AuthError::File(_) => StatusCode::FORBIDDEN,
        AuthError::Service(error) => match of_portal(error) {
            // The missing resource is at the auth service: the file exists.
            StatusCode::NOT_FOUND => StatusCode::BAD_GATEWAY,
            status => status,
        },
    }
}

/// Returns the status of a failed cache operation.
#[must_use]
pub fn of_cache(error: &CacheError) -> StatusCode {
    match error {
        CacheError::Io {
            errno: Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS),
            ..
        }
        | CacheError::TooSmall
        | CacheError::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        CacheError::Io {
            errno: Some(libc::EMFILE),
            ..
        }
        | CacheError::DiskHangs { .. }
        | CacheError::NoMemory(_) => StatusCode::SERVICE_UNAVAILABLE,
        CacheError::Io { .. } | CacheError::ChecksumMismatch { .. } | CacheError::UnsafeName(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
