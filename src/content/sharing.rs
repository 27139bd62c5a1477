//! Where downloads get their bytes: from the cache that the machines of a cluster share,
//! or from the portal.
//!
//! [`DataSource`] is what a download asks: `originals` and `columns` have the requests. Without a shared cache it is the client of the
//! data service and nothing else. With one, the user's login and licence are checked
//! before shared bytes are read, and each use of them is reported to the portal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;

use super::ContentError;
use super::usage_log::UsageLog;
use crate::cache::CachePath;
use crate::cluster::{SharedCache, SharedStream, Upstream};
use icos_portal::account::LicenceStatus;
use icos_portal::{Account, DataClient, ObjectId, UsageReporter};
use icos_sync::{Mutex, SingleFlight};

mod columns;
mod headers;
mod originals;
mod sizes;

pub(super) use columns::ColumnSelection;

/// How long a successful check of login and licence is valid, if the token stays.
const ACCESS_TTL: Duration = Duration::from_hours(1);
/// How long after a failed check another one is made.
const REFUSAL_TTL: Duration = Duration::from_secs(10);
/// Timeout of a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a shared cache needs from the portal: the user's permission, and a recipient of
/// reports.
#[derive(Debug)]
pub struct Sharing {
    cache: SharedCache,
    account: Account,
    /// The data service, as a folder of the shared cache.
    host: String,
    usage: UsageLog,
    last: Arc<Mutex<Option<AccessCheck>>>,
    checks: SingleFlight<(), bool>,
}

/// The result of the last check of login and licence.
#[derive(Clone, Copy, Debug)]
struct AccessCheck {
    at: Instant,
    is_allowed: bool,
    /// When the token that was checked expires.
    token_expires: Option<Timestamp>,
}

/// Where downloads get their bytes.
#[derive(Clone, Debug)]
pub(super) struct DataSource {
    data: DataClient,
    sharing: Option<Arc<Sharing>>,
}

/// Bytes from the shared cache, or shared with it, whose use is reported.
#[derive(Debug)]
pub(super) struct SharedBytes<U: Upstream> {
    stream: SharedStream<U>,
    id: ObjectId,
    path: CachePath,
    sharing: Arc<Sharing>,
}

impl Sharing {
    /// Shares downloads from `host` through `cache`, if `account` permits to read them,
    /// and reports reads of shared bytes to `usage`.
    #[must_use]
    pub fn new(
        cache: SharedCache,
        account: Account,
        host: String,
        usage: Option<UsageReporter>,
    ) -> Self {
        Self {
            cache,
            account,
            host,
            usage: UsageLog::new(usage),
            last: Arc::default(),
            checks: SingleFlight::default(),
        }
    }

    /// The shared cache.
    #[must_use]
    pub fn cache(&self) -> &SharedCache {
        &self.cache
    }

    fn path(&self, representation: &str, id: ObjectId) -> String {
        format!("v1/{}/{representation}/{id}", self.host)
    }

    /// Whether the user may read shared bytes: the portal accepts the login, and the user
    /// has accepted the licence. Checked again after each renewal of the token.
    async fn is_allowed(&self) -> bool {
        let state = self.account.login_state().await;
        let token = state.and_then(|state| state.token);
        let token_expires = token.map(|token| token.expires());
        let last = *self.last.lock();
        if let Some(last) = last {
            let is_current = if last.is_allowed {
                last.at.elapsed() < ACCESS_TTL
                    && token_expires == last.token_expires
                    && token_expires.is_some_and(|expires| expires > Timestamp::now())
            } else {
                last.at.elapsed() < REFUSAL_TTL
            };
            if is_current {
                return last.is_allowed;
            }
        }
        let (account, last) = (self.account.clone(), Arc::clone(&self.last));
        let check = || async move {
            let checked = tokio::time::timeout(CHECK_TIMEOUT, account.check_licence()).await;
            let is_allowed = matches!(checked, Ok(Ok(LicenceStatus::Accepted)));
            if !is_allowed {
                tracing::info!(
                    ?checked,
                    "the shared cache is not read: login and licence are not confirmed"
                );
            }
            // The check may have renewed the token.
            let state = account.login_state().await;
            let token = state.and_then(|state| state.token);
            *last.lock() = Some(AccessCheck {
                at: Instant::now(),
                is_allowed,
                token_expires: token.map(|token| token.expires()),
            });
            is_allowed
        };
        self.checks.join((), check).await
    }
}

impl DataSource {
    pub(super) fn new(data: DataClient, sharing: Option<Arc<Sharing>>) -> Self {
        Self { data, sharing }
    }

    /// The shared cache, if the user may read it.
    async fn permitted(&self) -> Option<&Arc<Sharing>> {
        let sharing = self.sharing.as_ref()?;
        // If the user may not, the portal says why.
        sharing.is_allowed().await.then_some(sharing)
    }
}

impl From<DataClient> for DataSource {
    fn from(data: DataClient) -> Self {
        Self::new(data, None)
    }
}

impl<U: Upstream<Error = ContentError>> SharedBytes<U> {
    /// A stream of what is used as the file of `id` at `path`.
    fn new(stream: SharedStream<U>, id: ObjectId, path: CachePath, sharing: &Arc<Sharing>) -> Self {
        Self {
            stream,
            id,
            path,
            sharing: Arc::clone(sharing),
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        let before = self.stream.from_store();
        let chunk = self.stream.chunk().await?;
        if before == 0 && self.stream.from_store() > 0 {
            self.sharing.usage.note(self.id, &self.path);
        }
        Ok(chunk)
    }
}
