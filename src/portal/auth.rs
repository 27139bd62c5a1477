//! Who the user is to the portal.
//!
//! Rules and margins are those of `icoscp_core`'s `auth.py`, so that both
//! renew at the same moments.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

mod password;
mod token;

pub use password::PasswordAuth;
pub use token::{BadToken, Token, TokenAuth};

/// Where tokens come from.
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// A token that is believed to be good, renewed if it is about to expire.
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>>;

    /// A token other than `refused`, which the portal did not accept although
    /// it was believed good; the portal's word counts more than our clock.
    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>>;

    /// Where the tokens come from, for a person, e.g. `ICOSFS_TOKEN`.
    fn source(&self) -> String;
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// The token's life is over and there is no password to renew it with.
    #[error(
        "the login token from {source_name} expired at {expired}; get a new one from the portal's My Account page ({page}) and replace it"
    )]
    Expired {
        /// Where it came from.
        source_name: String,
        /// When it expired.
        expired: jiff::Timestamp,
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
    /// The token is not one.
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The authentication service did not answer as it should.
    #[error("logging in failed: {0}")]
    Service(String),
}
