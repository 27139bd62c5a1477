//! Tokens for a user name and a password: had when they are needed, shared by
//! all who need one, and kept in the file that the credentials came from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

use super::login::{Fresh, log_in};
use super::secret_file::{FileError, FileLock};
use super::watched_file::WatchedFile;
use super::{
    AuthError, BELIEVED, Credentials, CredentialsFile, LoginState, Renewal, TIMEOUT, Token,
    TokenProvider,
};
use crate::Services;
use crate::http::Http;
use icos_sync::SingleFlight;

/// How long those who have a living token wait for its renewal.
const HURRY: Duration = Duration::from_secs(5);
/// How long after a login that got no answer whoever has no token waits before
/// the next.
const PAUSE: Duration = Duration::from_secs(5);
/// How long after a login whoever finds its token refused waits before the
/// next. A right password locks no account, and a token that was good for
/// longer was revoked: who revokes them each minute must not be in the way for
/// the rest of it.
const ANEW: Duration = Duration::from_secs(10);

/// Logs in when a token is needed, and again an hour before it expires.
#[derive(Debug)]
pub struct PasswordAuth {
    shared: Arc<Shared>,
    /// However many readers find the token stale, one login follows.
    renewals: SingleFlight<(), Result<Arc<Token>, AuthError>>,
}

#[derive(Debug)]
struct Shared {
    http: Http,
    services: Services,
    origin: Origin,
    source: String,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Origin {
    Given(Credentials),
    File(WatchedFile<CredentialsFile>),
}

#[derive(Debug, Default)]
struct State {
    /// Those in use; a file may have others by now.
    credentials: Option<Credentials>,
    token: Option<Arc<Token>>,
    /// The last token that the portal did not accept.
    refused: Option<Arc<Token>>,
    /// The last login with `credentials`.
    tried: Option<Attempt>,
    /// When the renewal under way began.
    renewing: Option<Instant>,
    /// How far the portal's clock is ahead of ours.
    ahead: SignedDuration,
}

#[derive(Debug)]
struct Attempt {
    at: Instant,
    /// Whether the portal had refused the token before.
    after_refusal: bool,
    result: Result<(), AuthError>,
}

impl PasswordAuth {
    /// Provides tokens for `credentials`, which came from `source` (words for
    /// a person). Asks the portal for nothing yet.
    #[must_use]
    pub fn new(http: Http, services: Services, credentials: Credentials, source: String) -> Self {
        Self::of(http, services, Origin::Given(credentials), source)
    }

    /// Provides tokens for the credentials in `file`, read again when it was
    /// replaced; keeps new tokens there, so that one login serves all
    /// processes that share the file.
    #[must_use]
    pub fn from_file(http: Http, services: Services, file: CredentialsFile) -> Self {
        let source = file.path().display().to_string();
        Self::of(http, services, Origin::File(WatchedFile::new(file)), source)
    }

    fn of(http: Http, services: Services, origin: Origin, source: String) -> Self {
        Self {
            shared: Arc::new(Shared {
                http,
                services,
                origin,
                source,
                state: Mutex::default(),
            }),
            renewals: SingleFlight::default(),
        }
    }

    async fn renewed(&self) -> Result<Arc<Token>, AuthError> {
        let shared = Arc::clone(&self.shared);
        let renewal = self.renewals.join((), || async move {
            shared.state().renewing = Some(Instant::now());
            let result = shared.renew().await;
            shared.state().renewing = None;
            result
        });
        let (living, since) = {
            let state = self.shared.state();
            (state.living(), state.renewing.unwrap_or_else(Instant::now))
        };
        let Some(living) = living else {
            return renewal.await;
        };
        // Whoever comes later waits for what is left of it.
        let deadline = tokio::time::Instant::from_std(since + HURRY);
        match tokio::time::timeout_at(deadline, renewal).await {
            Ok(result) => result,
            Err(_late) => Ok(living),
        }
    }
}

impl TokenProvider for PasswordAuth {
    fn token(&self) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async {
            self.shared.look(BELIEVED).await?;
            let fresh = self.shared.state().fresh();
            match fresh {
                Some(token) => Ok(token),
                None => self.renewed().await,
            }
        }
        .boxed()
    }

    fn replace(&self, refused: Arc<Token>) -> BoxFuture<'_, Result<Arc<Token>, AuthError>> {
        async move {
            self.shared.state().refuse(&refused);
            let token = self.renewed().await?;
            if token.same_as(&refused) {
                // From a renewal that had begun before the refusal.
                return self.renewed().await;
            }
            Ok(token)
        }
        .boxed()
    }

    fn login_state(&self) -> BoxFuture<'_, Option<LoginState>> {
        async {
            let looked = self.shared.look(BELIEVED).await;
            let state = self.shared.state();
            let tried = state.tried.as_ref().and_then(|t| t.result.clone().err());
            Some(LoginState {
                source: self.shared.source.clone(),
                user: state.credentials.as_ref().map(|c| c.user().to_owned()),
                token: state.token.clone(),
                renewal: Renewal::ByPassword,
                problem: looked.err().or(tried),
            })
        }
        .boxed()
    }
}

impl Shared {
    /// Takes over what the file says, as of no longer than `believed` ago.
    async fn look(&self, believed: Duration) -> Result<(), AuthError> {
        let credentials = match &self.origin {
            Origin::Given(credentials) => credentials.clone(),
            Origin::File(watched) => match watched.get_good(believed).await {
                Ok(Some(credentials)) => credentials,
                Ok(None) => {
                    // Logged out.
                    *self.state() = State::default();
                    let path = watched.source().path().to_owned();
                    return Err(FileError::Missing { path }.into());
                }
                Err(error) => return Err(error.into()),
            },
        };
        self.state().adopt(credentials);
        Ok(())
    }

    /// A token that lives, logging in if there is none; or one that lives for
    /// less than an hour if there is no better.
    async fn renew(&self) -> Result<Arc<Token>, AuthError> {
        self.look(Duration::ZERO).await?;
        if let Some(settled) = self.settled() {
            return settled;
        }
        let lock = match &self.origin {
            Origin::Given(_) => None,
            Origin::File(watched) => match watched.source().lock().await {
                Ok(lock) => {
                    // Another process may have renewed it meanwhile.
                    self.look(Duration::ZERO).await?;
                    if let Some(settled) = self.settled() {
                        return settled;
                    }
                    Some(lock)
                }
                Err(error) => {
                    tracing::warn!(%error, "a new token will not be kept");
                    None
                }
            },
        };
        self.log_in(lock).await
    }

    /// What there is without a login: a fresh token, or the answer to one
    /// tried of late.
    fn settled(&self) -> Option<Result<Arc<Token>, AuthError>> {
        let state = self.state();
        if let Some(token) = state.fresh() {
            return Some(Ok(token));
        }
        let tried = state.tried.as_ref()?;
        let living = state.living();
        let patience = match (&tried.result, &living) {
            (Err(AuthError::Service(_)), None) => PAUSE,
            (Ok(()), None) if state.token.is_none() => ANEW,
            _ => TIMEOUT,
        };
        if tried.at.elapsed() >= patience {
            return None;
        }
        match (&tried.result, living) {
            (_, Some(living)) => Some(Ok(living)),
            (Err(error), None) => Some(Err(error.clone())),
            (Ok(()), None) => match &state.token {
                // Ended on arrival: our clock is wrong, or the portal's.
                Some(token) => Some(Ok(Arc::clone(token))),
                // A token just had may be refused, but not time and again.
                None => tried.after_refusal.then(|| {
                    Err(AuthError::NewTokenRefused {
                        user: state.user(),
                        source_name: self.source.clone(),
                    })
                }),
            },
        }
    }

    async fn log_in(&self, lock: Option<FileLock>) -> Result<Arc<Token>, AuthError> {
        let (credentials, after_refusal) = {
            let state = self.state();
            let credentials = state.credentials.clone().ok_or(AuthError::NotLoggedIn)?;
            (
                credentials,
                state.token.is_none() && state.refused.is_some(),
            )
        };
        let result = log_in(&self.http, &self.services, &credentials, &self.source).await;
        self.state().tried = Some(Attempt {
            at: Instant::now(),
            after_refusal,
            result: result.as_ref().map(|_| ()).map_err(Clone::clone),
        });
        let Fresh { token, ahead } = match result {
            Ok(fresh) => fresh,
            Err(error) => {
                let living = self.state().living().ok_or(error.clone())?;
                tracing::warn!(%error, "the login token ends soon and could not be renewed");
                return Ok(living);
            }
        };
        tracing::info!(user = credentials.user(), source = %self.source, "logged in");
        let token = Arc::new(token);
        {
            let mut state = self.state();
            state.token = Some(Arc::clone(&token));
            state.ahead = ahead;
        }
        if let (Origin::File(watched), Some(lock)) = (&self.origin, lock) {
            let renewed = credentials.with_token(Arc::clone(&token));
            if let Err(error) = watched.source().renew(lock, renewed).await {
                tracing::warn!(%error, "the new token is not kept");
            }
        }
        Ok(token)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes over what a file says now; what was learnt of other credentials
    /// is forgotten.
    fn adopt(&mut self, credentials: Credentials) {
        let same = |known: &Credentials| known.same_as(&credentials);
        if !self.credentials.as_ref().is_some_and(same) {
            *self = Self {
                ahead: self.ahead,
                renewing: self.renewing,
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
        self.credentials = Some(credentials);
    }

    fn refuse(&mut self, refused: &Arc<Token>) {
        if self.token.as_ref().is_some_and(|t| t.same_as(refused)) {
            self.token = None;
        }
        self.refused = Some(Arc::clone(refused));
    }

    fn fresh(&self) -> Option<Arc<Token>> {
        let token = self.token.as_ref()?;
        token.is_fresh(self.now()).then(|| Arc::clone(token))
    }

    fn living(&self) -> Option<Arc<Token>> {
        let token = self.token.as_ref()?;
        (!token.is_expired(self.now())).then(|| Arc::clone(token))
    }

    /// By the portal's clock, as far as it is known.
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    fn user(&self) -> String {
        let user = self.credentials.as_ref().map(Credentials::user);
        user.unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envri;
    use crate::http::Timeouts;

    /// Of two tokens that were revoked a minute apart, the second was taken for
    /// one that the portal had never accepted if its login had come late: for
    /// the rest of a minute readers were denied all data.
    #[test]
    fn a_token_that_is_refused_a_while_after_its_login_is_replaced() {
        let http = Http::new(Timeouts::default()).unwrap();
        let credentials = Credentials::new("a@b.se".to_owned(), "a word".to_owned().into());
        let services = Services::of(Envri::Icos);
        let auth = PasswordAuth::new(http, services, credentials, "a test".to_owned());
        let is_settled = |seconds, result| {
            let at = Instant::now().checked_sub(Duration::from_secs(seconds));
            auth.shared.state().tried = at.map(|at| Attempt {
                at,
                after_refusal: true,
                result,
            });
            auth.shared.settled().is_some()
        };
        let wrong = || {
            Err(AuthError::WrongPassword {
                user: "a@b.se".to_owned(),
                source_name: "a test".to_owned(),
            })
        };
        assert!(is_settled(5, Ok(())), "not time and again");
        assert!(!is_settled(40, Ok(())));
        assert!(is_settled(40, wrong()), "accounts must not be locked");
    }
}
