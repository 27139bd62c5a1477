//! The metadata service: lists by SPARQL, landing pages as JSON. Needs no
//! login, and never sends one.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::sync::Semaphore;
use url::Url;

use super::http::{Http, says_unknown};
use super::lists::{self, ColumnRow, Cursor, ObjectRow, SpecRow};
use super::sparql::Rows;
use super::{ObjectId, PortalError, Service, Services};

/// No landing page is near this size; a collection of everything is.
const JSON_LIMIT: usize = 64 << 20;
/// 10 000 rows with long column lists stay well below.
const SPARQL_LIMIT: usize = 256 << 20;

/// A client of the metadata service.
#[derive(Clone, Debug)]
pub struct MetadataClient {
    http: Http,
    services: Services,
    /// The service bans whoever uses up its quota of query time; one query at
    /// a time cannot, and none of ours is urgent.
    queries: Arc<Semaphore>,
}

impl MetadataClient {
    /// The most rows a list gives at once, `icoscp_core`'s own limit.
    pub const PAGE: usize = 10_000;

    /// A client of the metadata service among `services`.
    #[must_use]
    pub fn new(http: Http, services: Services) -> Self {
        Self {
            http,
            services,
            queries: Arc::new(Semaphore::new(1)),
        }
    }

    /// The services it talks to.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The landing JSON of an object or document, byte for byte.
    ///
    /// # Errors
    ///
    /// [`PortalError::NotFound`] if there is no such object.
    pub async fn landing_json(&self, id: ObjectId) -> Result<Bytes, PortalError> {
        let url = self
            .services
            .url(Service::Meta, &["objects", &id.to_string()]);
        self.json(url, &format!("object {id}")).await
    }

    async fn json(&self, url: Url, what: &str) -> Result<Bytes, PortalError> {
        let request = self
            .http
            .request(Method::GET, url)
            .header(ACCEPT, "application/json");
        let answer = self.http.fetch(Service::Meta, request, JSON_LIMIT).await?;
        match answer.status().as_u16() {
            200 => answer.bytes(JSON_LIMIT).await,
            // Unknown items answer 500, with words that say so.
            500 => {
                let reason = answer.reason().await;
                Err(if says_unknown(&reason) {
                    PortalError::NotFound {
                        what: what.to_owned(),
                        reason,
                    }
                } else {
                    PortalError::Status {
                        service: Service::Meta,
                        status: 500,
                        reason,
                    }
                })
            }
            _ => Err(answer.into_error(what).await),
        }
    }

    /// Runs a SPARQL SELECT.
    pub async fn sparql(&self, query: String) -> Result<Rows, PortalError> {
        // Others may be waiting for a service that says nothing.
        let patience = self.http.timeout();
        let _turn = tokio::time::timeout(patience, self.queries.acquire())
            .await
            .map_err(|_late| PortalError::TimedOut {
                service: Service::Meta,
                waited: patience,
            })?;
        let request = self
            .http
            .request(Method::POST, self.services.url(Service::Meta, &["sparql"]))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "text/plain")
            .body(query);
        let answer = self
            .http
            .fetch(Service::Meta, request, SPARQL_LIMIT)
            .await?;
        if answer.status().as_u16() != 200 {
            return Err(answer.into_error("answer to a query").await);
        }
        Rows::parse(&answer.bytes(SPARQL_LIMIT).await?)
    }

    /// Up to [`MetadataClient::PAGE`] current objects of `specs` from `cursor`
    /// on, oldest submission first. A shorter page is the last.
    pub async fn objects(
        &self,
        specs: &[&str],
        cursor: Cursor,
    ) -> Result<Vec<ObjectRow>, PortalError> {
        let query = lists::objects_query(specs, cursor, Self::PAGE);
        lists::parse_objects(&self.sparql(query).await?)
    }

    /// One object or document, of whatever type and version; `None` if there
    /// is no such.
    pub async fn object(&self, id: ObjectId) -> Result<Option<ObjectRow>, PortalError> {
        let query = lists::object_query(self.services.envri(), id);
        Ok(lists::parse_objects(&self.sparql(query).await?)?.pop())
    }

    /// Every data type, by label.
    pub async fn specs(&self) -> Result<Vec<SpecRow>, PortalError> {
        let query = lists::specs_query(self.services.envri());
        lists::parse_specs(&self.sparql(query).await?)
    }

    /// One data type, listed or not.
    pub async fn spec(&self, iri: &str) -> Result<Option<SpecRow>, PortalError> {
        lists::parse_specs(&self.sparql(lists::spec_query(iri)).await?).map(|mut rows| rows.pop())
    }

    /// The columns of every dataset.
    pub async fn columns(&self) -> Result<Vec<ColumnRow>, PortalError> {
        lists::parse_columns(&self.sparql(lists::columns_query()).await?)
    }
}
