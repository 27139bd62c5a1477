//! Why the portal did not deliver.

use std::fmt;
use std::time::Duration;

use super::Service;
use super::auth::AuthError;

/// Why the portal did not deliver what was asked.
///
/// Cheap to clone, for one answer often serves many who wait. Never contains a
/// secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PortalError {
    /// The object needs a login and there is none.
    #[error("{what} needs a login; run `icosfs login`, or set ICOSFS_TOKEN, and read again")]
    LoginRequired {
        /// What was asked for.
        what: String,
    },
    /// The portal does not accept the token: expired, revoked or not its own.
    #[error("the portal refused the login token for {what}; renew it with `icosfs login`")]
    Unauthorized {
        /// What was asked for.
        what: String,
    },
    /// The user has not accepted the data licence.
    #[error(
        "the data licence is not accepted; accept it in your profile at {page}, then read again"
    )]
    LicenceNotAccepted {
        /// Where a person accepts it.
        page: String,
    },
    /// The portal has it and does not give it: moratorium, policy, third party.
    #[error("the portal does not hand out {what}: {reason}")]
    Withheld {
        /// What was asked for.
        what: String,
        /// The portal's words.
        reason: String,
    },
    /// The portal does not have it.
    #[error("the portal has no {what}: {reason}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The portal's words.
        reason: String,
    },
    /// Logging in failed.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// No connection.
    #[error(
        "the {service} service cannot be reached ({reason}); check the network, and whether the service is up"
    )]
    Unreachable {
        /// Which one.
        service: Service,
        /// The operating system's or TLS library's words.
        reason: String,
    },
    /// Nothing arrived for too long.
    #[error("the {service} service sent nothing for {} s; it may be overloaded, try again later", waited.as_secs())]
    TimedOut {
        /// Which one.
        service: Service,
        /// How long nothing arrived.
        waited: Duration,
    },
    /// 503, or the SPARQL quota is used up.
    #[error("the {service} service is busy (503); it asked to come back later")]
    Busy {
        /// Which one.
        service: Service,
        /// How long it asked to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
    /// The connection broke, or closed before the whole answer had arrived.
    #[error("the {service} service broke off after {received} bytes ({reason})")]
    ConnectionLost {
        /// Which one.
        service: Service,
        /// How many bytes of the body arrived.
        received: u64,
        /// What was noticed.
        reason: String,
    },
    /// Any other status.
    #[error("the {service} service answered {status}: {reason}")]
    Status {
        /// Which one.
        service: Service,
        /// The HTTP status code.
        status: u16,
        /// The first words of the answer.
        reason: String,
    },
    /// The answer is not what the protocol promises.
    #[error("the {service} service answered something unexpected: {reason}")]
    BadResponse {
        /// Which one.
        service: Service,
        /// What was expected and what was found.
        reason: String,
    },
}

impl PortalError {
    /// An answer of `service` that breaks the protocol.
    pub(crate) fn bad_response(service: Service, reason: impl fmt::Display) -> Self {
        Self::BadResponse {
            service,
            reason: reason.to_string(),
        }
    }
}

/// A stranger's words on one line that a terminal shows and does not obey: no
/// control characters, and none that turn the direction of what follows.
pub(crate) fn sanitize(words: &str) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    words.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_terminal_would_obey_are_made_harmless() {
        for (words, shown) in [
            ("under moratorium until 2099", "under moratorium until 2099"),
            ("K\u{F6}ln", "K\u{F6}ln"),
            ("\u{1B}[2Jgone", "\u{FFFD}[2Jgone"),
            ("\u{9B}2J\u{7F}\u{7}", "\u{FFFD}2J\u{FFFD}\u{FFFD}"),
            ("good\rbad", "good bad"),
            ("\u{202E}drowssap", "\u{FFFD}drowssap"),
        ] {
            assert_eq!(sanitize(words), shown, "{words:?}");
        }
    }
}
