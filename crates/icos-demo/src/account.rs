//! The demo user: password, licence acceptance, and login tokens.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::token::TokenIssuer;

/// How long the token of a new login is valid (protocol page, section 1).
pub(crate) const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_secs(100_000);

/// The demo user.
pub(crate) struct DemoAccount {
    pub(crate) mail: String,
    pub(crate) password: String,
    licence_accepted: bool,
    /// Until when the acceptance is suspended.
    suspended_until: Option<Instant>,
    issuer: TokenIssuer,
    /// How long the token of a login is valid.
    pub(crate) token_lifetime: SignedDuration,
    /// How far the portal's clock is ahead of this machine's clock.
    pub(crate) clock_ahead: SignedDuration,
}

impl DemoAccount {
    pub(crate) fn new(mail: String, password: String, licence_accepted: bool) -> Self {
        Self {
            mail,
            password,
            licence_accepted,
            suspended_until: None,
            issuer: TokenIssuer::random(),
            token_lifetime: TOKEN_LIFETIME,
            clock_ahead: SignedDuration::ZERO,
        }
    }

    /// The time by the portal's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.clock_ahead
    }

    /// Issues a token, if the user's name and password are right.
    pub(crate) fn log_in(&self, mail: &str, password: &str) -> Option<String> {
        let right = self.mail.eq_ignore_ascii_case(mail) && self.password == password;
        right.then(|| self.issue_token(self.token_lifetime))
    }

    /// Issues a token that is valid for `lifetime`; if that is negative, the
    /// token has expired already.
    pub(crate) fn issue_token(&self, lifetime: SignedDuration) -> String {
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 2);
        let expiry = self.now().as_millisecond() + lifetime;
        self.issuer.issue(&self.mail, "Password", expiry)
    }

    /// Returns the user that `token` is for, or why it is invalid.
    pub(crate) fn check_token(&self, token: &str) -> Result<String, String> {
        let claims = self.issuer.check(token, self.now().as_millisecond())?;
        Ok(claims.mail)
    }

    /// Makes all tokens issued so far invalid.
    pub(crate) fn revoke_tokens(&mut self) {
        self.issuer = self.issuer.successor();
    }

    /// Sets whether the licence is accepted, and ends a suspension.
    pub(crate) fn accept_licence(&mut self, accepted: bool) {
        self.licence_accepted = accepted;
        self.suspended_until = None;
    }

    /// Withdraws the acceptance for `pause`, or until the next acceptance.
    pub(crate) fn withdraw_licence(&mut self, pause: Option<Duration>) {
        match pause {
            None => self.accept_licence(false),
            Some(pause) => {
                let until = Instant::now().checked_add(pause);
                self.suspended_until = self.suspended_until.max(until);
            }
        }
    }

    /// Whether `mail` is this user and has accepted the licence.
    pub(crate) fn has_accepted_licence(&self, mail: &str) -> bool {
        let suspended = self.suspended_until.is_some_and(|end| Instant::now() < end);
        self.licence_accepted && !suspended && self.mail == mail
    }
}
