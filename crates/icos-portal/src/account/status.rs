//! A login for display, by `icosfs status` and `icosfs auth status`, as text
//! and as JSON. Contains no secret.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LicenceStatus;
use crate::auth::{LoginState, Renewal, Token};

/// A login for display.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoginStatus {
    /// Its source, e.g. `ICOSFS_TOKEN` or a file.
    pub source: String,
    /// The mail address of the user, once it is known.
    pub user: Option<String>,
    /// The login method of the token: `Password`, `Saml`, `Orcid`, ...
    pub method: Option<String>,
    /// The time of its expiry.
    pub expires: Option<Timestamp>,
    /// Seconds until then; negative if it has expired.
    pub seconds_left: Option<i64>,
    /// Whether a new token is obtained without the user.
    pub renewed: bool,
    /// Whether the data licence is accepted, if that was checked.
    pub licence: Option<LicenceStatus>,
    /// The URL of the account page.
    pub account_page: String,
    /// Why reading data fails, or soon will fail, and what to do.
    pub advice: Option<String>,
}

impl LoginStatus {
    pub(super) fn new(
        state: LoginState,
        licence: Option<LicenceStatus>,
        now: Timestamp,
        page: String,
    ) -> Self {
        let warning = state.warning(now, &page);
        let problem = state.problem.as_ref().map(ToString::to_string);
        let advice = problem.or(warning).or_else(|| {
            (licence == Some(LicenceStatus::NotAccepted)).then(|| {
                format!("the data licence is not accepted; accept it in your profile at {page}")
            })
        });
        let token = state.token.as_deref();
        Self {
            user: state.user,
            method: token.map(|token| token.login_method().to_owned()),
            expires: token.map(Token::expires),
            seconds_left: token.map(|token| token.expires().duration_since(now).as_secs()),
            renewed: state.renewal == Renewal::ByPassword,
            source: state.source,
            licence,
            account_page: page,
            advice,
        }
    }
}

/// One line: the user, the source, the remaining time, and whether the licence
/// is accepted.
impl fmt::Display for LoginStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or("unknown user");
        write!(f, "{user}, from {}", self.source)?;
        match (self.seconds_left, self.renewed) {
            (None, _) => f.write_str(", not logged in yet")?,
            (Some(left), _) if left > 0 => write!(f, ", {} left", RoughDuration(left))?,
            (Some(_), true) => f.write_str(", to be renewed at the next read")?,
            (Some(_), false) => f.write_str(", expired")?,
        }
        match self.licence {
            Some(licence) => write!(f, ", licence {licence}"),
            None => Ok(()),
        }
    }
}

/// Seconds, displayed in a coarse unit.
struct RoughDuration(i64);

impl fmt::Display for RoughDuration {
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
    fn login_status_displays_in_one_line() {
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
