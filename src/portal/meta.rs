//! The metadata service: lists by SPARQL, landing pages as JSON. Needs no
//! login, and never sends one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::Semaphore;
use url::Url;

use super::circuit::Circuit;
use super::http::{Http, says_unknown};
use super::lists::{
    self, CollectionRow, ColumnRow, Cursor, MemberRow, ObjectRow, ObjectScope, Page, SpecRow,
    StationRow, SuccessionRow,
};
use super::sparql::Rows;
use super::{ObjectId, PortalError, Service, Services};

/// No landing page is near this size; a collection of everything is.
const JSON_LIMIT: usize = 64 << 20;
/// 10 000 rows with long column lists stay well below.
const SPARQL_LIMIT: usize = 256 << 20;

/// What a landing page is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subject {
    /// An object or document.
    Object(ObjectId),
    /// A collection.
    Collection(ObjectId),
    /// A station, by the end of its IRI, e.g. `AS_HTM`.
    Station(String),
}

/// A client of the metadata service.
#[derive(Clone, Debug)]
pub struct MetadataClient {
    http: Http,
    services: Services,
    /// The service bans whoever uses up its quota of query time; one query at
    /// a time cannot, and none of ours is urgent.
    queries: Arc<Semaphore>,
    circuit: Arc<Circuit>,
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
            circuit: Arc::default(),
        }
    }

    /// The services it talks to.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
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

    /// A landing page's JSON, byte for byte.
    ///
    /// # Errors
    ///
    /// [`PortalError::NotFound`] if there is no such thing.
    pub async fn page(&self, subject: &Subject) -> Result<Bytes, PortalError> {
        let (id, name);
        let (path, what): ([&str; 3], &str) = match subject {
            Subject::Object(object) => return self.landing_json(*object).await,
            Subject::Collection(collection) => {
                id = collection.to_string();
                (["", "collections", &id], "collection")
            }
            Subject::Station(station) => {
                name = station;
                (["resources", "stations", name], "station")
            }
        };
        let segments: Vec<&str> = path.into_iter().filter(|part| !part.is_empty()).collect();
        let url = self.services.url(Service::Meta, &segments);
        self.json(url, &format!("{what} {}", path[2])).await
    }

    /// Runs a SPARQL SELECT, when those asked before have been answered. After
    /// a failure the service is left alone for a while, as long as it wishes.
    pub async fn sparql(&self, query: String) -> Result<Rows, PortalError> {
        // Others may be waiting for a service that says nothing.
        let patience = self.http.timeout();
        let _turn = tokio::time::timeout(patience, self.queries.acquire())
            .await
            .map_err(|_late| PortalError::TimedOut {
                service: Service::Meta,
                waited: patience,
            })?;
        if let Some(refusal) = self.circuit.refusal() {
            return Err(refusal);
        }
        let mut retry_after = None;
        let answer = self.ask(query, &mut retry_after).await;
        match &answer {
            Ok(_) => self.circuit.answered(),
            Err(error) => self.circuit.failed(error, retry_after),
        }
        answer
    }

    async fn ask(
        &self,
        query: String,
        retry_after: &mut Option<Duration>,
    ) -> Result<Rows, PortalError> {
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
            let seconds = answer.header(&RETRY_AFTER).and_then(|s| s.parse().ok());
            *retry_after = seconds.map(Duration::from_secs);
            return Err(answer.into_error("answer to a query").await);
        }
        Rows::parse(&answer.bytes(SPARQL_LIMIT).await?)
    }

    /// Up to [`MetadataClient::PAGE`] objects of `scope` from `cursor` on,
    /// oldest submission first. If fewer were sent, they are the last.
    pub async fn objects(
        &self,
        scope: ObjectScope<'_>,
        cursor: Cursor,
    ) -> Result<Page<ObjectRow>, PortalError> {
        let query = lists::objects(scope, cursor, Self::PAGE);
        Ok(lists::parse_objects(&self.sparql(query).await?))
    }

    /// Up to [`MetadataClient::PAGE`] documents from `cursor` on, oldest
    /// submission first.
    pub async fn documents(
        &self,
        before: Option<Timestamp>,
        cursor: Cursor,
    ) -> Result<Page<ObjectRow>, PortalError> {
        let query = lists::documents(before, cursor, Self::PAGE);
        Ok(lists::parse_objects(&self.sparql(query).await?))
    }

    /// Objects and documents, of whatever type and version; those that there
    /// are.
    pub async fn objects_by_id(&self, ids: &[ObjectId]) -> Result<Vec<ObjectRow>, PortalError> {
        let query = lists::objects_by_id(self.services.envri(), ids);
        Ok(lists::parse_objects(&self.sparql(query).await?).rows)
    }

    /// Which objects were superseded by those submitted from `since` until
    /// `before`.
    pub async fn successions(
        &self,
        since: Timestamp,
        before: Timestamp,
    ) -> Result<Vec<SuccessionRow>, PortalError> {
        let query = lists::successions(since, before);
        Ok(lists::parse_successions(&self.sparql(query).await?).rows)
    }

    /// Every data type, by label.
    pub async fn specs(&self) -> Result<Vec<SpecRow>, PortalError> {
        let query = lists::specs(self.services.envri());
        Ok(lists::parse_specs(&self.sparql(query).await?).rows)
    }

    /// One data type, listed or not.
    pub async fn spec(&self, iri: &str) -> Result<Option<SpecRow>, PortalError> {
        let query = lists::spec(self.services.envri(), iri);
        Ok(lists::parse_specs(&self.sparql(query).await?).rows.pop())
    }

    /// The columns of every dataset.
    pub async fn columns(&self) -> Result<Vec<ColumnRow>, PortalError> {
        Ok(lists::parse_columns(&self.sparql(lists::columns()).await?).rows)
    }

    /// The repository's own stations, by id.
    pub async fn stations(&self) -> Result<Vec<StationRow>, PortalError> {
        let query = lists::stations(self.services.envri());
        Ok(lists::parse_stations(&self.sparql(query).await?).rows)
    }

    /// Every collection.
    pub async fn collections(&self) -> Result<Vec<CollectionRow>, PortalError> {
        Ok(lists::parse_collections(&self.sparql(lists::collections()).await?).rows)
    }

    /// Up to [`MetadataClient::PAGE`] rows of what is in collections, from the
    /// `offset`th on: in all of them, or in one.
    pub async fn members(
        &self,
        of: Option<ObjectId>,
        offset: usize,
    ) -> Result<Page<MemberRow>, PortalError> {
        let query = lists::members(self.services.envri(), of, offset, Self::PAGE);
        Ok(lists::parse_members(&self.sparql(query).await?))
    }

    /// Up to [`MetadataClient::PAGE`] ids of objects, from the `offset`th on,
    /// whose data were taken within west, south, east and north, in degrees.
    pub async fn within(
        &self,
        bbox: [f64; 4],
        offset: usize,
    ) -> Result<Page<ObjectId>, PortalError> {
        let query = lists::within(bbox, offset, Self::PAGE);
        Ok(lists::parse_ids(&self.sparql(query).await?))
    }
}
