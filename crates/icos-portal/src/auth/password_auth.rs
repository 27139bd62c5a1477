//! A provider of tokens for a user name and a password: logs in when a token is
//! needed, and stores the token in the file that the credentials came from.
//!
//! Lock order: the lock of the credentials file (held across a login, shared by
//! processes) before the mutex of the state (held for moments, never across an
//! await).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::login::log_in;
use super::login_file::LoginSource;
use super::secret_file::{FileError, FileLock};
use super::{
    AuthError, Credentials, CredentialsFile, FILE_TTL, LoginState, REFUSAL_TTL, Renewal, Token,
    TokenProvider,
};
use crate::http::Http;
use crate::{PortalError, Services};
use icos_sync::{Mutex, SingleFlight};

/// How long a request with a valid token waits for the renewal of that token.
const RENEWAL_WAIT: Duration = Duration::from_secs(5);
/// Pause after a login without a response, if there is no valid token.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Longest pause that is accepted from a busy service. A longer one is a
/// mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(15);
/// Pause after a successful login whose token the portal refuses. Repeating it
/// locks no account, as the password is right. The usual minute is too long: if
/// tokens are revoked every minute, most reads would fail.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// Logs in when a token is needed, and again an hour before it expires.
#[derive(Debug)]
pub struct PasswordAuth {
    login: Arc<PasswordLogin>,
    /// A single login for all callers that need a new token.
    renewals: SingleFlight<(), Result<Arc<Token>, AuthError>>,
}

#[derive(Debug)]
struct PasswordLogin {
    http: Http,
    services: Services,
    source: LoginSource<Credentials>,
    state: Mutex<PasswordState>,
}

#[derive(Debug, Default)]
struct PasswordState {
    /// The credentials in use. The file may contain others by now.
    credentials: Option<Credentials>,
    token: Option<Arc<Token>>,
    /// The last token that the portal refused.
    refused: Option<Arc<Token>>,
    /// The last login with `credentials`.
    last_attempt: Option<LoginAttempt>,
    /// When the renewal in progress began.
    renewal_began: Option<Instant>,
    /// How far the clock of the portal is ahead of the local one.
    ahead: SignedDuration,
}

#[derive(Debug)]
struct LoginAttempt {
    at: Instant,
    /// Whether the portal had refused the token before it.
    after_refusal: bool,
    result: Result<(), AuthError>,
}

impl PasswordAuth {
    /// Provides tokens for `credentials`. `source` names their source for
    /// display. Sends no request yet.
    #[must_use]
    pub fn new(http: Http, services: Services, credentials: Credentials, source: String) -> Self {
        let (login, name) = (credentials, source);
        Self::of(http, services, LoginSource::Fixed { login, name })
    }

    /// Provides tokens for the credentials in `file`, and reads them again when
    /// the file is replaced. Stores new tokens there, so that the processes
    /// that share the file share one login.
    #[must_use]
    pub fn from_file(http: Http, services: Services, file: CredentialsFile) -> Self {
        Self::of(http, services, LoginSource::File(file))
    }

    fn of(http: Http, services: Services, source: LoginSource<Credentials>) -> Self {
        Self {
            login: Arc::new(PasswordLogin {
                http,
                services,
                source,
                state: Mutex::default(),
            }),
            renewals: SingleFlight::default(),
        }
    }

    async fn renew_once(&self) -> Result<Arc<Token>, AuthError> {
        let login = Arc::clone(&self.login);
        let renewal = self.renewals.join((), || async move {
            login.state.lock().renewal_began = Some(Instant::now());
            let result = login.renew().await;
            login.state.lock().renewal_began = None;
            result
        });
        let (valid_token, since) = {
            let state = self.login.state.lock();
            (
                state.valid_token(),
                state.renewal_began.unwrap_or_else(Instant::now),
            )
        };
        let Some(valid_token) = valid_token else {
            return renewal.await;
        };
        // The deadline is the same for later callers.
        let deadline = tokio::time::Instant::from_std(since + RENEWAL_WAIT);
        match tokio::time::timeout_at(deadline, renewal).await {
            Ok(result) => result,
            Err(_elapsed) => Ok(valid_token),
        }
    }
}

impl TokenProvider for PasswordAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            self.login.reload(FILE_TTL).await?;
            let fresh = self.login.state.lock().fresh_token();
            match fresh {
                Some(token) => Ok(token),
                None => self.renew_once().await,
            }
        }
        .boxed()
    }

    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async move {
            self.login.state.lock().refuse(&refused);
            let token = self.renew_once().await?;
            if token.same_as(&refused) {
                // This token is from a renewal that began before the refusal.
                return self.renew_once().await;
            }
            Ok(token)
        }
        .boxed()
    }

    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>> {
        async {
            let reloaded = self.login.reload(FILE_TTL).await;
            let state = self.login.state.lock();
            let failure = state
                .last_attempt
                .as_ref()
                .and_then(|a| a.result.clone().err());
            Some(LoginState {
                source: self.login.source.name(),
                user: state.credentials.as_ref().map(|c| c.user().to_owned()),
                token: state.token.clone(),
                renewal: Renewal::ByPassword,
                problem: reloaded.err().or(failure),
            })
        }
        .boxed()
    }
}

impl PasswordLogin {
    /// Updates the credentials from the file, if it was last checked longer
    /// than `max_age` ago.
    async fn reload(&self, max_age: Duration) -> Result<(), AuthError> {
        let credentials = self.source.login(max_age).await;
        match &credentials {
            Ok(credentials) => self.state.lock().adopt(credentials),
            // The user logged out.
            Err(FileError::Missing { .. }) => *self.state.lock() = PasswordState::default(),
            Err(_) => {}
        }
        Ok(credentials.map(drop)?)
    }

    /// Returns a valid token; logs in if there is none that is fresh. If the
    /// login fails, returns a token that is valid but not fresh, if there is
    /// one.
    async fn renew(&self) -> Result<Arc<Token>, AuthError> {
        self.reload(Duration::ZERO).await?;
        if let Some(result) = self.without_login() {
            return result;
        }
        let lock = match &self.source {
            LoginSource::Fixed { .. } => None,
            LoginSource::File(file) => match file.lock().await {
                Ok(lock) => {
                    // Another process may have renewed it meanwhile.
                    self.reload(Duration::ZERO).await?;
                    if let Some(result) = self.without_login() {
                        return result;
                    }
                    Some(lock)
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot lock the credentials file; the new token will not be stored");
                    None
                }
            },
        };
        self.log_in(lock).await
    }

    /// Returns a result if no login is needed: a fresh token, or the result of
    /// the last login if that was too recently to repeat it.
    fn without_login(&self) -> Option<Result<Arc<Token>, AuthError>> {
        let state = self.state.lock();
        if let Some(token) = state.fresh_token() {
            return Some(Ok(token));
        }
        let attempt = state.last_attempt.as_ref()?;
        let valid_token = state.valid_token();
        let pause = match (&attempt.result, &valid_token) {
            (Err(AuthError::Service(error)), None) => pause_after(error),
            (Ok(()), None) if state.token.is_none() => PAUSE_AFTER_REFUSAL,
            _ => REFUSAL_TTL,
        };
        if attempt.at.elapsed() >= pause {
            return None;
        }
        match (&attempt.result, valid_token) {
            (_, Some(valid_token)) => Some(Ok(valid_token)),
            (Err(error), None) => Some(Err(error.clone())),
            (Ok(()), None) => match &state.token {
                // It was expired when it arrived: one of the clocks is wrong.
                Some(token) => Some(Ok(Arc::clone(token))),
                // A token may be revoked right after the login, so it is
                // replaced at once. If the portal also refuses the token after
                // that, more logins would not help.
                None => attempt.after_refusal.then(|| {
                    Err(AuthError::NewTokenRefused {
                        user: state.user(),
                        source_name: self.source.name(),
                    })
                }),
            },
        }
    }

    async fn log_in(&self, lock: Option<FileLock>) -> Result<Arc<Token>, AuthError> {
        let (credentials, after_refusal) = {
            let state = self.state.lock();
            let credentials = state.credentials.clone().ok_or(AuthError::NotLoggedIn)?;
            (
                credentials,
                state.token.is_none() && state.refused.is_some(),
            )
        };
        let source = self.source.name();
        let result = log_in(&self.http, &self.services, &credentials, &source).await;
        self.state.lock().last_attempt = Some(LoginAttempt {
            at: Instant::now(),
            after_refusal,
            result: result.as_ref().map(|_| ()).map_err(Clone::clone),
        });
        let (token, ahead) = match result {
            Ok(new) => new,
            Err(error) => {
                let valid_token = self.state.lock().valid_token().ok_or(error.clone())?;
                tracing::warn!(%error, "the login token expires soon and could not be renewed");
                return Ok(valid_token);
            }
        };
        tracing::info!(user = credentials.user(), %source, "logged in");
        let token = Arc::new(token);
        {
            let mut state = self.state.lock();
            state.token = Some(Arc::clone(&token));
            state.ahead = ahead;
        }
        if let (LoginSource::File(file), Some(lock)) = (&self.source, lock) {
            let renewed = credentials.with_token(Arc::clone(&token));
            if let Err(error) = file.renew(lock, renewed).await {
                tracing::warn!(%error, "cannot store the new token");
            }
        }
        Ok(token)
    }
}

impl PasswordState {
    /// Takes over the credentials of a file. If they differ from the previous
    /// ones, forgets all state that belongs to those.
    fn adopt(&mut self, credentials: &Credentials) {
        let same = |known: &Credentials| known.same_as(credentials);
        if !self.credentials.as_ref().is_some_and(same) {
            *self = Self {
                ahead: self.ahead,
                renewal_began: self.renewal_began,
                ..Self::default()
            };
        }
        if let Some(token) = credentials.token()
            && !self.refused.as_ref().is_some_and(|r| r.same_as(token))
            && self
                .token
                .as_ref()
                .is_none_or(|own| own.expires() < token.expires())
        {
            self.token = Some(Arc::clone(token));
        }
        self.credentials = Some(credentials.clone());
    }

    fn refuse(&mut self, refused: &Arc<Token>) {
        if self.token.as_ref().is_some_and(|t| t.same_as(refused)) {
            self.token = None;
        }
        self.refused = Some(Arc::clone(refused));
    }

    fn fresh_token(&self) -> Option<Arc<Token>> {
        let token = self.token.as_ref()?;
        token.is_fresh(self.now()).then(|| Arc::clone(token))
    }

    fn valid_token(&self) -> Option<Arc<Token>> {
        let token = self.token.as_ref()?;
        (!token.is_expired(self.now())).then(|| Arc::clone(token))
    }

    /// The time by the clock of the portal, as far as it is known.
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    fn user(&self) -> String {
        let user = self.credentials.as_ref().map(Credentials::user);
        user.unwrap_or_default().to_owned()
    }
}

/// Returns the pause after a login that failed because of `error` of the service.
fn pause_after(error: &PortalError) -> Duration {
    match error {
        PortalError::Busy {
            retry_after: Some(requested),
            ..
        } => PAUSE_AFTER_FAILURE.max(MAX_RETRY_AFTER.min(*requested)),
        _ => PAUSE_AFTER_FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envri;
    use crate::http::Timeouts;

    /// Regression: if tokens were revoked a minute apart and the second login
    /// came late, its token counted as refused right after the login, and reads
    /// failed for the rest of the minute.
    #[test]
    fn token_refused_a_while_after_its_login_is_replaced() {
        let http = Http::new(Timeouts::default()).unwrap();
        let credentials = Credentials::new("a@b.se".to_owned(), "a word".to_owned().into());
        let services = Services::of(Envri::Icos);
        let auth = PasswordAuth::new(http, services, credentials, "a test".to_owned());
        let needs_no_login = |seconds, result| {
            let at = Instant::now().checked_sub(Duration::from_secs(seconds));
            auth.login.state.lock().last_attempt = at.map(|at| LoginAttempt {
                at,
                after_refusal: true,
                result,
            });
            auth.login.without_login().is_some()
        };
        let wrong = || {
            Err(AuthError::WrongPassword {
                user: "a@b.se".to_owned(),
                source_name: "a test".to_owned(),
            })
        };
        assert!(needs_no_login(5, Ok(())), "no login right after a refusal");
        assert!(!needs_no_login(40, Ok(())));
        assert!(
            needs_no_login(40, wrong()),
            "a wrong password is not repeated"
        );
    }

    #[test]
    fn login_refused_by_a_busy_service_is_repeated_after_the_requested_pause() {
        for (retry_after, pause) in [(None, 5), (Some(1), 5), (Some(60), 60), (Some(9999), 900)] {
            let error = PortalError::Busy {
                service: crate::Service::Auth,
                status: 429,
                retry_after: retry_after.map(Duration::from_secs),
            };
            assert_eq!(pause_after(&error), Duration::from_secs(pause));
        }
    }
}
