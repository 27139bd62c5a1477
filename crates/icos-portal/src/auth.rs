//! Login tokens: where they come from, when they are renewed, and what is known
//! about a login.
//!
//! | provider | of tokens from |
//! |---|---|
//! | [`TokenAuth`] | the caller or a file; the user renews them |
//! | [`PasswordAuth`] | a login with user name and password, given or in a file |
//! | [`StoredAuth`] | the files that `icosfs login` and the Python library write |
//!
//! The renewal rules and the credentials file are those of `icoscp_core`'s
//! `auth.py`, so that both clients find, share and renew the same login. Three
//! points differ. Tasks and processes that need a token at the same time cause
//! one login. If the portal refuses a token, it is replaced even if it has not
//! expired by the local clock. While a renewal fails, the old token stays in
//! use until it expires.
//!
//! A refused token or password is not sent again for a minute (`REFUSAL_TTL`)
//! unless the user replaces it, so that repeated reads cannot lock an account.
//! A token that is refused shortly after a login is replaced by another login
//! 10 s later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::PortalError;

mod credentials;
mod login;
mod login_file;
mod password_auth;
mod secret_file;
mod stored_auth;
mod token;
mod token_auth;

pub use credentials::{Credentials, CredentialsFile};
pub use login_file::LoginFile;
pub use password_auth::PasswordAuth;
pub use secret_file::FileError;
pub use stored_auth::StoredAuth;
pub use token::{BadToken, Token};
pub use token_auth::{TokenAuth, TokenFile};

/// How long a refused token or password is not sent again.
const REFUSAL_TTL: Duration = Duration::from_mins(1);

/// How long the content of a file is cached before the file is checked for
/// changes.
const FILE_TTL: Duration = Duration::from_secs(1);

/// A source of tokens.
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// Returns a token, renewed if it is about to expire.
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>>;

    /// Returns a token other than `refused`, which the portal did not accept.
    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>>;

    /// Returns what is known without a request to the portal; `None` if there
    /// is no login.
    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>>;
}

/// What is known about a login.
#[derive(Clone, Debug)]
pub struct LoginState {
    /// Its source, for display, e.g. `ICOSFS_TOKEN`.
    pub source: String,
    /// The mail address of the user, once it is known.
    pub user: Option<String>,
    /// The present token, valid or not.
    pub token: Option<Arc<Token>>,
    /// How the token is renewed.
    pub renewal: Renewal,
    /// Why there is no valid token, if a request needed one and failed.
    pub problem: Option<AuthError>,
}

/// How a token is renewed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// By a login with the password.
    ByPassword,
    /// The user copies a new one from the portal.
    Manual,
}

impl LoginState {
    /// Returns a warning if the token expires within an hour, or has expired,
    /// and only the user can renew it. `page` is the account page.
    #[must_use]
    pub fn warning(&self, now: Timestamp, page: &str) -> Option<String> {
        let token = self.token.as_ref()?;
        if self.renewal == Renewal::ByPassword || token.is_fresh(now) {
            return None;
        }
        let (source, expires) = (&self.source, token.expires());
        let when = if token.is_expired(now) {
            "expired"
        } else {
            "expires"
        };
        Some(format!(
            "the login token from {source} {when} at {expires:.0}; get a new one from the portal's My Account page ({page}) and replace it"
        ))
    }
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// The user has not logged in.
    #[error("not logged in; run `icosfs login`, or set ICOSFS_TOKEN")]
    NotLoggedIn,
    /// The token has expired, and there is no password to renew it with.
    #[error(
        "the login token from {source_name} expired at {expired:.0}; get a new one from the portal's My Account page ({page}) and replace it"
    )]
    Expired {
        /// Its source.
        source_name: String,
        /// The time of its expiry.
        expired: Timestamp,
        /// The account page with a new token.
        page: String,
    },
    /// The portal refused the token and there is no password to renew it with.
    #[error(
        "the portal refused the login token from {source_name}; get a new one from the portal's My Account page ({page}) and replace it"
    )]
    Refused {
        /// Its source.
        source_name: String,
        /// The account page with a new token.
        page: String,
    },
    /// The portal refused a token that it had issued just before.
    #[error(
        "the portal refused a new login token of {user} (from {source_name}); the next login attempt follows in a few seconds"
    )]
    NewTokenRefused {
        /// The user name.
        user: String,
        /// The source of the password.
        source_name: String,
    },
    /// The portal refused this user name and password.
    #[error(
        "the portal refused user name or password of {user} (from {source_name}); correct them with `icosfs login`"
    )]
    WrongPassword {
        /// The user name.
        user: String,
        /// The source of the password.
        source_name: String,
    },
    /// The text is not a token.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The file with the login cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authentication service failed or sent an unexpected response.
    #[error("logging in failed: {0}")]
    Service(Box<PortalError>),
}
