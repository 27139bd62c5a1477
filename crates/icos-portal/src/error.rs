//! The error of all requests to the portal.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::Service;
use super::auth::AuthError;
use super::redaction::foreign_text;

/// Why a request to the portal failed.
///
/// Clones are cheap, because one response often serves several waiters.
/// Messages never contain a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PortalError {
    /// The object requires a login and there is none.
    #[error("{what} needs a login; run `icosfs login`, or set ICOSFS_TOKEN, and read again")]
    LoginRequired {
        /// What was requested.
        what: String,
    },
    /// The portal does not accept the token: it is expired, revoked or not one
    /// of this portal.
    #[error("the portal refused the login token for {what}; renew it with `icosfs login`")]
    Unauthorized {
        /// What was requested.
        what: String,
    },
    /// The user has not accepted the data licence.
    #[error(
        "the data licence is not accepted; accept it in your profile at {page}, then read again"
    )]
    LicenceNotAccepted {
        /// The URL where the user accepts it.
        page: String,
    },
    /// The portal has the object but denies access: moratorium, policy or third
    /// party.
    #[error("the portal denies access to {what}: {reason}")]
    Withheld {
        /// What was requested.
        what: String,
        /// The reason that the portal gives.
        reason: String,
    },
    /// The portal does not have the object.
    #[error("the portal has no {what}: {reason}")]
    NotFound {
        /// What was requested.
        what: String,
        /// The reason that the portal gives.
        reason: String,
    },
    /// Logging in failed.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// No connection could be established.
    #[error(
        "the {service} service cannot be reached ({reason}); check the network, and whether the service is running"
    )]
    Unreachable {
        /// The service.
        service: Service,
        /// The reason that the operating system or the TLS library gives.
        reason: String,
    },
    /// No bytes arrived within the timeout, or too few of them.
    #[error("the {service} service sent nothing or too little for {} s; it may be overloaded; try again later", waited.as_secs().max(1))]
    TimedOut {
        /// The service.
        service: Service,
        /// How long the client waited.
        waited: Duration,
    },
    /// The service accepts no request now: status 408, 425, 429 or 503.
    #[error("the {service} service is busy ({status}); {}", when_to_retry(*retry_after))]
    Busy {
        /// The service.
        service: Service,
        /// The HTTP status code.
        status: u16,
        /// How long to wait before the next request, if the service says so.
        retry_after: Option<Duration>,
    },
    /// The object has cost more within an hour than the limit allows.
    #[error(
        "{what} was downloaded {requests} times ({bytes} bytes) within an hour, which is the limit; the cache may be too small for it, or the connection breaks off: raise --cache-size or --max-overhead, or read it again in {} min", wait.as_secs().div_ceil(60)
    )]
    OverLimit {
        /// What was requested.
        what: String,
        /// Number of requests that the service answered with data.
        requests: u64,
        /// Number of bytes received.
        bytes: u64,
        /// How long until the object can be requested again.
        wait: Duration,
    },
    /// The connection was lost before the complete response had arrived.
    #[error("the connection to the {service} service was lost after {received} bytes ({reason})")]
    ConnectionLost {
        /// The service.
        service: Service,
        /// Number of bytes of the body that arrived.
        received: u64,
        /// What went wrong.
        reason: String,
    },
    /// Any other status.
    #[error("the {service} service responded with status {status}: {reason}")]
    Status {
        /// The service.
        service: Service,
        /// The HTTP status code.
        status: u16,
        /// The first line of the response.
        reason: String,
    },
    /// The response violates the protocol.
    #[error("the {service} service sent an unexpected response: {reason}")]
    BadResponse {
        /// The service.
        service: Service,
        /// What was expected and what was found.
        reason: String,
    },
}

impl PortalError {
    /// Returns the error for a response of `service` that violates the
    /// protocol.
    pub(crate) fn bad_response(service: Service, reason: impl fmt::Display) -> Self {
        Self::BadResponse {
            service,
            reason: foreign_text(&reason.to_string()),
        }
    }
}

/// Returns what a message says about the time of the next request.
fn when_to_retry(retry_after: Option<Duration>) -> String {
    match retry_after.map(|wait| wait.as_secs()) {
        None | Some(0) => "try again later".to_owned(),
        Some(seconds) => format!("it requests a pause of {seconds} s; try again after that"),
    }
}

/// Parses the JSON of a response of `service`: `expected` names it in the error.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(
    service: Service,
    expected: &str,
    json: &'a [u8],
) -> Result<T, PortalError> {
    serde_json::from_slice(json).map_err(|error| {
        PortalError::bad_response(service, format_args!("expected {expected}, found {error}"))
    })
}

/// Deserializes a list of at most `MAX` elements: elements may take more memory
/// than their text.
pub(crate) fn at_most<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(ListVisitor::<T, MAX>(PhantomData))
}

/// Whether a terminal may take this character for a command: one that moves the cursor,
/// or changes the direction of the text, so that it looks like another.
#[must_use]
pub fn is_terminal_command(c: char) -> bool {
    let changes_direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || changes_direction
}

/// Makes untrusted text safe to print on a terminal, on one line: replaces
/// control characters and characters that change the text direction.
pub(crate) fn sanitize(text: &str) -> String {
    let replace = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        c if is_terminal_command(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitize_replaces_control_and_direction_characters() {
        for (text, sanitized) in [
            ("under moratorium until 2099", "under moratorium until 2099"),
            ("K\u{F6}ln", "K\u{F6}ln"),
            ("\u{1B}[2Jgone", "\u{FFFD}[2Jgone"),
            ("\u{9B}2J\u{7F}\u{7}", "\u{FFFD}2J\u{FFFD}\u{FFFD}"),
            ("good\rbad", "good bad"),
            ("\u{202E}drowssap", "\u{FFFD}drowssap"),
        ] {
            assert_eq!(sanitize(text), sanitized, "{text:?}");
        }
    }
}
