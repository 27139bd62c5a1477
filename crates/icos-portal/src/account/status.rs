//! What a login looks like to its owner: for `icosfs status` and `icosfs auth
//! status`, as text and as JSON. Never a secret.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LicenceStatus;
use crate::auth::{LoginState, Renewal, Token};

/// A login as its owner sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoginStatus {
    /// Where it comes from, e.g. `ICOSFS_TOKEN` or a file.
    pub source: String,
    /// The user's mail address, once it is known.
    pub user: Option<String>,
    /// How the token at hand was had: `Password`, `Saml`, `Orcid`, …
    pub method: Option<String>,
    /// When it expires.
    pub expires: Option<Timestamp>,
    /// How many seconds it has left; negative if it has expired.
    pub seconds_left: Option<i64>,
    /// Whether a new one is had without the user's doing.
    pub renewed: bool,
    /// Whether the data licence is accepted, if that was asked.
    pub licence: Option<LicenceStatus>,
    /// Where its owner finds the account.
    pub account_page: String,
    /// Why reading data fails, or soon will, and what to do.
    pub advice: Option<String>,
}

impl LoginStatus {
    pub(super) fn new(
        standing: LoginState,
        licence: Option<LicenceStatus>,
        now: Timestamp,
        page: String,
    ) -> Self {
        let warning = standing.warning(now, &page);
        let problem = standing.problem.as_ref().map(ToString::to_string);
        let advice = problem.or(warning).or_else(|| {
            (licence == Some(LicenceStatus::NotAccepted)).then(|| {
                format!("the data licence is not accepted; accept it in your profile at {page}")
            })
        });
        let token = standing.token.as_deref();
        Self {
            user: standing.user,
            method: token.map(|token| token.login_method().to_owned()),
            expires: token.map(Token::expires),
            seconds_left: token.map(|token| token.expires().duration_since(now).as_secs()),
            renewed: standing.renewal == Renewal::ByPassword,
            source: standing.source,
            licence,
            account_page: page,
            advice,
        }
    }
}

/// One line: who, from where, how long, and whether the licence is accepted.
impl fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or("someone");
        write!(f, "{user}, from {}", self.source)?;
        match (self.seconds_left, self.renewed) {
            (None, _) => f.write_str(", not logged in yet")?,
            (Some(left), _) if left > 0 => write!(f, ", {} left", Span(left))?,
            (Some(_), true) => f.write_str(", to be renewed at the next read")?,
            (Some(_), false) => f.write_str(", expired")?,
        }
        match self.licence {
            Some(licence) => write!(f, ", licence {licence}"),
            None => Ok(()),
        }
    }
}

/// Seconds, as roughly as a person wants to know.
struct Span(i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds < 120 => write!(f, "{seconds} s"),
            seconds if seconds < 7200 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h", seconds / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_told_in_a_line() {
        let status = |seconds_left, renewed, licence| LoginStatus {
            source: "ICOSFS_TOKEN".to_owned(),
            user: Some("a@b.se".to_owned()),
            method: None,
            expires: None,
            seconds_left,
            renewed,
            licence,
            account_page: String::new(),
            advice: None,
        };
        for (seconds, renewed, licence, text) in [
            (None, true, None, "not logged in yet"),
            (Some(100_000), false, None, "27 h left"),
            (Some(3599), false, None, "59 min left"),
            (Some(5), false, None, "5 s left"),
            (Some(-5), false, None, "expired"),
            (Some(-5), true, None, "to be renewed at the next read"),
            (
                Some(7200),
                true,
                Some(LicenceStatus::NotAccepted),
                "2 h left, licence not accepted",
            ),
        ] {
            assert_eq!(
                status(seconds, renewed, licence).to_string(),
                format!("a@b.se, from ICOSFS_TOKEN, {text}")
            );
        }
    }
}
