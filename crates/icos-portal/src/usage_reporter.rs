//! Reports reads of data files on the portal's own disks to the portal.
//!
//! Such reads bypass the data service, so the portal does not see them. It
//! counts its users by these reports, which have the same form as those of the
//! Python library.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, COOKIE};
use tokio::sync::mpsc;

use super::auth::TokenProvider;
use super::http::Http;
use super::{ObjectId, PortalError, Service, Services};

/// Maximum number of objects that wait for their report. Further objects are
/// not reported.
const MAX_WAITING: usize = 10_000;
/// Maximum number of objects in one report.
const MAX_BATCH: usize = 100;
/// Timeout of one report.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reports reads to `<auth>/logs/portaluse` in the background. Failures are
/// only logged.
#[derive(Clone, Debug)]
pub struct UsageReporter {
    client: UsageClient,
    /// To the task that sends the reports, once there was a read.
    reads: Arc<OnceLock<mpsc::Sender<ObjectId>>>,
}

#[derive(Clone, Debug)]
struct UsageClient {
    http: Http,
    services: Services,
    /// Without a login, reports are anonymous.
    auth: Option<Arc<dyn TokenProvider>>,
}

impl UsageReporter {
    /// Creates a reporter that sends to the authentication service of
    /// `services`.
    #[must_use]
    pub fn new(http: Http, services: Services, auth: Option<Arc<dyn TokenProvider>>) -> Self {
        Self {
            client: UsageClient {
                http,
                services,
                auth,
            },
            reads: Arc::default(),
        }
    }

    /// Reports that `id` was read. Returns at once; reads that happen during
    /// one report go into the next. Needs a tokio runtime.
    pub fn report(&self, id: ObjectId) {
        let reads = self.reads.get_or_init(|| {
            let (sender, reads) = mpsc::channel(MAX_WAITING);
            tokio::spawn(self.client.clone().send_all(reads));
            sender
        });
        // Fails if too many wait.
        let _ = reads.try_send(id);
    }
}

impl UsageClient {
    async fn send_all(self, mut reads: mpsc::Receiver<ObjectId>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while reads.recv_many(&mut batch, MAX_BATCH).await > 0 {
            match tokio::time::timeout(TIMEOUT, self.send(&batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "could not report reads"),
                Err(_late) => tracing::debug!("timed out while reporting reads"),
            }
            batch.clear();
        }
    }

    async fn send(&self, objects: &[ObjectId]) -> Result<(), PortalError> {
        let objects: Vec<String> = objects.iter().map(ObjectId::to_string).collect();
        let report = serde_json::json!({"cpbFileAccess": {
            "objects": objects,
            "client": "icosfs",
            "version": env!("CARGO_PKG_VERSION"),
        }});
        let url = self.services.url(Service::Auth, &["logs", "portaluse"]);
        let mut request = self
            .http
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/json")
            .body(report.to_string());
        if let Some(auth) = &self.auth
            && let Ok(token) = auth.token().await
        {
            request = request.header(COOKIE, token.header());
        }
        let response = self
            .http
            .send_at_most(1, TIMEOUT, Service::Auth, request)
            .await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(response.into_error("usage report").await)
        }
    }
}
