//! Where downloads get their bytes: from the cache that the machines of a cluster share,
//! or from the portal.
//!
//! [`DataSource`] is what a download asks. Without a shared cache it is the client of the
//! data service and nothing else. With one, the user's login and licence are checked
//! before shared bytes are read, and each use of them is reported to the portal.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;

use super::ContentError;
use super::usage_log::UsageLog;
use crate::cache::CachePath;
use crate::cluster::{SharedCache, SharedObject, SharedStream, Upstream, UpstreamStream};
use icos_portal::account::LicenceStatus;
use icos_portal::data::OriginalStream;
use icos_portal::{Account, DataClient, ObjectId, PortalError, UsageReporter};
use icos_sync::{Mutex, SingleFlight};

/// The part of the path of originals in the shared cache, and in reports.
const ORIGINAL: &str = "original";
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

/// The bytes of an original, or of a part of it.
#[derive(Debug)]
pub(super) enum OriginalBytes {
    Portal(Box<OriginalStream>),
    Shared(Box<SharedOriginal>),
}

/// An original from the shared cache, or shared with it.
#[derive(Debug)]
pub(super) struct SharedOriginal {
    stream: SharedStream<OriginalRequest>,
    id: ObjectId,
    sharing: Arc<Sharing>,
}

/// A request for an original to the portal.
#[derive(Debug)]
pub(super) struct OriginalRequest {
    data: DataClient,
    id: ObjectId,
    len: u64,
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

    fn original(&self, id: ObjectId, len: u64) -> SharedObject {
        SharedObject {
            path: self.path(ORIGINAL, id),
            length: len,
            digest: Some(*id.as_bytes()),
        }
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

    /// Requests `range` of the original of `id`, which has `len` bytes.
    pub(super) async fn original(
        &self,
        id: ObjectId,
        len: u64,
        range: Range<u64>,
    ) -> Result<OriginalBytes, ContentError> {
        let data = self.data.clone();
        let request = OriginalRequest { data, id, len };
        let Some(sharing) = &self.sharing else {
            let stream = request.open(range).await?;
            return Ok(OriginalBytes::Portal(Box::new(stream)));
        };
        if !sharing.is_allowed().await {
            // The portal says why.
            let stream = request.open(range).await?;
            return Ok(OriginalBytes::Portal(Box::new(stream)));
        }
        let object = sharing.original(id, len);
        let mut stream = sharing.cache.open(object, range, request);
        stream.begin().await?;
        Ok(OriginalBytes::Shared(Box::new(SharedOriginal {
            stream,
            id,
            sharing: Arc::clone(sharing),
        })))
    }

    /// Notes that the bytes of the original of `id` turned out to be wrong.
    pub(super) fn distrust(&self, id: ObjectId) {
        if let Some(sharing) = &self.sharing {
            sharing.cache.distrust(sharing.path(ORIGINAL, id));
        }
    }
}

impl From<DataClient> for DataSource {
    fn from(data: DataClient) -> Self {
        Self::new(data, None)
    }
}

impl OriginalBytes {
    /// Returns the next chunk, or `None` after the last one.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        match self {
            Self::Portal(stream) => Ok(stream.chunk().await?),
            Self::Shared(original) => original.chunk().await,
        }
    }
}

impl SharedOriginal {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        let before = self.stream.from_store();
        let chunk = self.stream.chunk().await?;
        if before == 0
            && self.stream.from_store() > 0
            && let Ok(path) = CachePath::new(ORIGINAL, &self.id.to_string())
        {
            self.sharing.usage.note(self.id, &path);
        }
        Ok(chunk)
    }
}

impl Upstream for OriginalRequest {
    type Stream = OriginalStream;
    type Error = ContentError;

    async fn open(&self, range: Range<u64>) -> Result<OriginalStream, ContentError> {
        let to = (range.end < self.len).then_some(range.end);
        let stream = self.data.original(self.id, range.start, to).await?;
        if stream.total != self.len {
            return Err(ContentError::WrongLength {
                id: self.id,
                expected: self.len,
                found: stream.total,
            });
        }
        Ok(stream)
    }
}

impl UpstreamStream for OriginalStream {
    type Error = ContentError;

    async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        OriginalStream::chunk(self).await.map_err(PortalError::into)
    }
}
