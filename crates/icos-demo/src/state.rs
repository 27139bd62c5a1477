//! What the three services share: the repository, the one user, the record.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::faults::Faults;
use super::http::Ask;
use super::record::{DemoService, Recorder};
use super::repository::Repository;
use super::server::Port;
use super::sparql::{Cache, Quota, SparqlLimits};
use super::token::Mint;

/// Shared by the services.
pub(crate) struct Shared {
    pub(crate) repository: Repository,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) faults: Faults,
    pub(crate) limits: SparqlLimits,
    pub(crate) quota: Quota,
    pub(crate) cache: Cache,
    account: Mutex<Account>,
    /// Where it listens, once it does.
    ports: OnceLock<Weak<[Port; 3]>>,
}

/// The demo user.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) mail: String,
    pub(crate) password: String,
    pub(crate) licence_accepted: bool,
    /// Until when the acceptance does not count.
    pub(crate) withdrawn_until: Option<Instant>,
    pub(crate) mint: Mint,
    /// How long the token of a login lives.
    pub(crate) token_life: SignedDuration,
    /// How far the portal's clock is ahead of this machine's.
    pub(crate) ahead: SignedDuration,
}

impl Account {
    /// Makes every token minted so far invalid.
    pub(crate) fn revoke_tokens(&mut self) {
        self.mint = self.mint.successor();
    }

    /// Accepts the licence, or not, from now on.
    pub(crate) fn accept_licence(&mut self, accepted: bool) {
        self.licence_accepted = accepted;
        self.withdrawn_until = None;
    }

    /// Takes the acceptance back, for as long as `pause` or until the next.
    pub(crate) fn withdraw_licence(&mut self, pause: Option<Duration>) {
        match pause {
            None => self.accept_licence(false),
            Some(pause) => {
                let until = Instant::now().checked_add(pause);
                self.withdrawn_until = self.withdrawn_until.max(until);
            }
        }
    }

    fn has_accepted_licence(&self) -> bool {
        let withdrawn = self.withdrawn_until.is_some_and(|end| Instant::now() < end);
        self.licence_accepted && !withdrawn
    }
}

impl Shared {
    pub(crate) fn new(
        repository: Repository,
        recorder: Recorder,
        account: Account,
        limits: SparqlLimits,
    ) -> Self {
        Self {
            repository,
            recorder: Arc::new(recorder),
            faults: Faults::default(),
            quota: Quota::new(limits.clone()),
            cache: Cache::new(limits.cache_life, limits.cache_entry),
            limits,
            account: Mutex::new(account),
            ports: OnceLock::new(),
        }
    }

    /// Says where the services listen.
    pub(crate) fn listens_at(&self, ports: &Arc<[Port; 3]>) {
        // It starts once.
        let _ = self.ports.set(Arc::downgrade(ports));
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for the demo user that lives this long; a negative life has
    /// ended.
    pub(crate) fn mint(&self, lifetime: SignedDuration) -> String {
        let account = self.account();
        let expiry = account.now() + i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 2);
        account.mint.mint(&account.mail, "Password", expiry)
    }

    /// The time by the portal's clock, as HTTP writes it.
    pub(crate) fn date(&self) -> String {
        let now = jiff::Timestamp::from_millisecond(self.account().now()).unwrap_or_default();
        now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// The name of the login cookie.
    pub(crate) fn cookie_name(&self) -> &'static str {
        self.repository.envri().cookie_name()
    }

    /// Who is asking; nothing without a cookie.
    pub(crate) fn claims(&self, ask: &Ask) -> Option<Result<String, String>> {
        let cookie = ask.cookie(self.cookie_name())?;
        let account = self.account();
        let claims = account.mint.check(cookie, account.now());
        Some(claims.map(|claims| claims.mail))
    }

    /// The user with a valid cookie.
    pub(crate) fn user(&self, ask: &Ask) -> Option<String> {
        self.claims(ask)?.ok()
    }

    /// Takes a service down, for as long as `pause`. Returns at once.
    pub(crate) fn take_down(&self, service: DemoService, pause: Option<Duration>) {
        let Some(ports) = self.ports.get().cloned() else {
            return;
        };
        let on_port = move |work: fn(&Port)| {
            let ports = ports.clone();
            // Closing waits for the accepting task to end.
            tokio::task::spawn_blocking(move || {
                if let Some(ports) = ports.upgrade() {
                    work(&ports[service as usize]);
                }
            })
        };
        tokio::spawn(async move {
            let _ = on_port(Port::close).await;
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
                let _ = on_port(|port| {
                    if let Err(error) = port.reopen() {
                        tracing::error!(%error, port = port.number(), "it stays down");
                    }
                })
                .await;
            }
        });
    }

    /// Whether the user has accepted the data licence in the profile.
    pub(crate) fn has_accepted_licence(&self, mail: &str) -> bool {
        let account = self.account();
        account.has_accepted_licence() && account.mail == mail
    }
}

impl Account {
    /// Milliseconds since the epoch, by the portal's clock.
    fn now(&self) -> i64 {
        let ahead = i64::try_from(self.ahead.as_millis()).unwrap_or(0);
        jiff::Timestamp::now().as_millisecond() + ahead
    }
}

/// How long a token of a fresh login lives (protocol page, section 1).
pub(crate) const TOKEN_LIFE: SignedDuration = SignedDuration::from_secs(100_000);
