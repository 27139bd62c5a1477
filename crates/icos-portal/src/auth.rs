//! Who the user is to the portal.
//!
//! Rules, margins and the credentials file are those of `icoscp_core`'s
//! `auth.py`, so that both find, share and renew the same login. Three things
//! are better than there: many who need a token at once cause one login,
//! whatever processes they are in; the portal's refusal of a token counts more
//! than our clock; and a token that still lives is used while its renewal
//! fails.
//!
//! What was refused is not tried again for a minute (`TIMEOUT`), unless it
//! was replaced meanwhile: nobody's account gets locked by a file manager. A
//! token that a login just gave is replaced by another login after 10 s.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::PortalError;

mod credentials;
mod login;
mod password_auth;
mod secret_file;
mod stored_auth;
mod token;
mod token_auth;
mod watched_file;

pub use credentials::{Credentials, CredentialsFile};
pub use password_auth::PasswordAuth;
pub use secret_file::FileError;
pub use stored_auth::StoredAuth;
pub use token::{BadToken, Token};
pub use token_auth::{TokenAuth, TokenFile};

/// How long the portal's refusal of a token or password is remembered.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How long what a file said is believed before it is looked at again.
const BELIEVED: Duration = Duration::from_secs(1);

/// Where tokens come from.
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// A token to try, renewed if it is about to expire.
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>>;

    /// A token other than `refused`, which the portal did not accept although
    /// it was believed good; the portal's word counts more than our clock.
    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>>;

    /// What is known without asking the portal; `None` if there is no login.
    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>>;
}

/// What is known of a login.
#[derive(Clone, Debug)]
pub struct LoginState {
    /// Where it comes from, for a person, e.g. `ICOSFS_TOKEN`.
    pub source: String,
    /// The user's mail address, once it is known.
    pub user: Option<String>,
    /// The token at hand, good or not.
    pub token: Option<Arc<Token>>,
    /// What happens when the token expires.
    pub renewal: Renewal,
    /// Why there is no good token, if someone needed one in vain.
    pub problem: Option<AuthError>,
}

/// What happens when a token expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// A new one is had for the password.
    ByPassword,
    /// The user gets one from the portal and replaces it.
    ByHand,
}

impl LoginState {
    /// What the user should know and do before reads fail: a token that
    /// nothing renews ends within the hour, or has ended.
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
    /// The token's life is over and there is no password to renew it with.
    #[error(
        "the login token from {source_name} expired at {expired:.0}; get a new one from the portal's My Account page ({page}) and replace it"
    )]
    Expired {
        /// Where it came from.
        source_name: String,
        /// When it expired.
        expired: Timestamp,
        /// Where to get another.
        page: String,
    },
    /// The portal refused the token and there is no password to renew it with.
    #[error(
        "the portal refused the login token from {source_name}; get a new one from the portal's My Account page ({page}) and replace it"
    )]
    Refused {
        /// Where it came from.
        source_name: String,
        /// Where to get another.
        page: String,
    },
    /// The portal refused a token that it had handed out just before.
    #[error(
        "the portal refuses even a new login token of {user} (from {source_name}); it will be asked again in a few seconds"
    )]
    NewTokenRefused {
        /// Who.
        user: String,
        /// Where the password came from.
        source_name: String,
    },
    /// The portal does not know this user with this password.
    #[error(
        "the portal refused user name or password of {user} (from {source_name}); correct them with `icosfs login`"
    )]
    WrongPassword {
        /// Who.
        user: String,
        /// Where the password came from.
        source_name: String,
    },
    /// The text is not a token.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The file with the login cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authentication service did not answer as it should.
    #[error("logging in failed: {0}")]
    Service(Box<PortalError>),
}
