//! Reports of data that were read beside the portal, from its own disks, as
//! the Python library sends them: the repository counts its readers by them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, COOKIE};

use super::auth::TokenProvider;
use super::http::Http;
use super::{ObjectId, PortalError, Service, Services};

/// Objects that may wait for their report. If the portal does not take them,
/// later ones go unreported.
const WAITING: usize = 10_000;
/// The most objects in one report.
const BATCH: usize = 100;
/// How long a report may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reports reads to `<auth>/logs/portaluse`. Nobody waits for it, and nobody
/// learns of its failures.
#[derive(Clone, Debug)]
pub struct UsageReporter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    http: Http,
    services: Services,
    /// Without a login, or while there is none, reports are anonymous.
    auth: Option<Arc<dyn TokenProvider>>,
    reads: Mutex<Reads>,
}

#[derive(Debug, Default)]
struct Reads {
    waiting: Vec<ObjectId>,
    /// Whether a task is sending them.
    sending: bool,
}

impl UsageReporter {
    /// Reports to the authentication service among `services`.
    #[must_use]
    pub fn new(http: Http, services: Services, auth: Option<Arc<dyn TokenProvider>>) -> Self {
        Self(Arc::new(Shared {
            http,
            services,
            auth,
            reads: Mutex::default(),
        }))
    }

    /// Reports that `id` was read, in a while; returns at once. What is read
    /// during one report goes into the next. Needs a tokio runtime.
    pub fn report(&self, id: ObjectId) {
        let shared = &self.0;
        let mut reads = shared.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.waiting.len() < WAITING {
            reads.waiting.push(id);
        }
        if !reads.sending {
            reads.sending = true;
            tokio::spawn(Arc::clone(shared).send_all());
        }
    }
}

impl Shared {
    async fn send_all(self: Arc<Self>) {
        loop {
            let batch: Vec<ObjectId> = {
                let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
                if reads.waiting.is_empty() {
                    reads.sending = false;
                    return;
                }
                let until = reads.waiting.len().min(BATCH);
                reads.waiting.drain(..until).collect()
            };
            match tokio::time::timeout(TIMEOUT, self.send(&batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "reads were not reported"),
                Err(_late) => tracing::debug!("reads were not reported in time"),
            }
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
        let answer = self.http.send_at_most(1, Service::Auth, request).await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(answer.into_error("reports of use").await)
        }
    }
}
