//! The metadata service: lists by SPARQL, landing pages as JSON. Needs no
//! login, and never sends one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::Semaphore;
use url::Url;

use super::http::{Http, says_unknown};
use super::lists::{
    self, CollectionRow, ColumnRow, Cursor, MemberRow, ObjectRow, ObjectScope, ResultPage, SpecRow,
    StationRow, SuccessionRow,
};
use super::sparql::QueryRows;
use super::{ObjectId, PortalError, Service, Services};

mod query_backoff;

use query_backoff::QueryBackoff;

/// No landing page is near this size; a collection of everything is.
const JSON_LIMIT: usize = 64 << 20;
/// 10 000 rows with long column lists stay well below.
const SPARQL_LIMIT: usize = 256 << 20;

/// The service lets no query run for longer than 9 s: whoever has no answer by
/// now waits for the network, and not for the service.
const OVERDUE: Duration = Duration::from_secs(10);
/// The service takes 5 queries of one address at once.
const MOST_UNDER_WAY: usize = 4;

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
    /// Whose turn it is. The service bans whoever uses up its quota of query
    /// time; one query at a time cannot, and few of ours are urgent.
    turn: Arc<Semaphore>,
    /// All that wait for an answer, those that are overdue as well.
    under_way: Arc<Semaphore>,
    circuit: Arc<QueryBackoff>,
}

impl MetadataClient {
    /// The most rows a list gives at once, `icoscp_core`'s own limit.
    pub const MAX_ROWS: usize = 10_000;

    /// A client of the metadata service among `services`.
    #[must_use]
    pub fn new(http: Http, services: Services) -> Self {
        Self {
            http,
            services,
            turn: Arc::new(Semaphore::new(1)),
            under_way: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
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
    pub async fn landing_json(&self, subject: &Subject) -> Result<Bytes, PortalError> {
        let (path, name, what): (&[&str], _, _) = match subject {
            Subject::Object(id) => (&["objects"], id.to_string(), "object"),
            Subject::Collection(id) => (&["collections"], id.to_string(), "collection"),
            Subject::Station(name) => (&["resources", "stations"], name.clone(), "station"),
        };
        let segments = [path, &[name.as_str()]].concat();
        let url = self.services.url(Service::Meta, &segments);
        self.json(url, &format!("{what} {name}")).await
    }

    /// Runs a SPARQL SELECT, when those asked before have been answered or are
    /// overdue. After a failure the service is left alone for a while, as long
    /// as it wishes.
    pub async fn sparql(&self, query: String) -> Result<QueryRows, PortalError> {
        // Others may be waiting for a service that says nothing.
        let patience = self.http.timeout();
        let admitted = async { (self.turn.acquire().await, self.under_way.acquire().await) };
        let (turn, _under_way) =
            tokio::time::timeout(patience, admitted)
                .await
                .map_err(|_late| PortalError::TimedOut {
                    service: Service::Meta,
                    waited: patience,
                })?;
        if let Some(refusal) = self.circuit.refusal() {
            return Err(refusal);
        }
        let (begun, mut retry_after) = (Instant::now(), None);
        let answer = {
            let asking = std::pin::pin!(self.ask(query, &mut retry_after));
            // The first try gives up by then, however short the patience.
            let overdue = tokio::time::sleep(OVERDUE.min(patience / 4));
            match select(asking, std::pin::pin!(overdue)).await {
                Either::Left((answer, _)) => answer,
                Either::Right(((), asking)) => {
                    tracing::debug!("a query is overdue; the next may overtake it");
                    drop(turn);
                    asking.await
                }
            }
        };
        match &answer {
            Ok(_) => self.circuit.answered(),
            Err(error) => self.circuit.failed(error, retry_after, begun),
        }
        answer
    }

    async fn ask(
        &self,
        query: String,
        retry_after: &mut Option<Duration>,
    ) -> Result<QueryRows, PortalError> {
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
        QueryRows::parse(&answer.bytes(SPARQL_LIMIT).await?)
    }

    /// Up to [`MetadataClient::MAX_ROWS`] objects of `scope` from `cursor` on,
    /// oldest submission first. If fewer were sent, they are the last.
    pub async fn objects(
        &self,
        scope: ObjectScope<'_>,
        cursor: Cursor,
    ) -> Result<ResultPage<ObjectRow>, PortalError> {
        let query = lists::objects(scope, cursor, Self::MAX_ROWS);
        Ok(lists::parse_objects(&self.sparql(query).await?))
    }

    /// Up to [`MetadataClient::MAX_ROWS`] documents from `cursor` on, oldest
    /// submission first.
    pub async fn documents(
        &self,
        before: Option<Timestamp>,
        cursor: Cursor,
    ) -> Result<ResultPage<ObjectRow>, PortalError> {
        let query = lists::documents(before, cursor, Self::MAX_ROWS);
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

    /// Up to [`MetadataClient::MAX_ROWS`] rows of what is in collections, from the
    /// `offset`th on: in all of them, or in one.
    pub async fn members(
        &self,
        of: Option<ObjectId>,
        offset: usize,
    ) -> Result<ResultPage<MemberRow>, PortalError> {
        let query = lists::members(self.services.envri(), of, offset, Self::MAX_ROWS);
        Ok(lists::parse_members(&self.sparql(query).await?))
    }

    /// Up to [`MetadataClient::MAX_ROWS`] ids of objects, from the `offset`th on,
    /// whose data were taken within west, south, east and north, in degrees.
    pub async fn within(
        &self,
        bbox: [f64; 4],
        offset: usize,
    ) -> Result<ResultPage<ObjectId>, PortalError> {
        let query = lists::within(bbox, offset, Self::MAX_ROWS);
        Ok(lists::parse_ids(&self.sparql(query).await?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Envri;
    use crate::http::Timeouts;

    /// A service that answers every query but those that say `stall`, and
    /// counts how many it has at once.
    fn service(most_at_once: &Arc<AtomicUsize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::clone(most_at_once));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                std::thread::spawn(move || serve(stream, &now, &most));
            }
        });
        url
    }

    fn serve(mut stream: TcpStream, now: &AtomicUsize, most: &AtomicUsize) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let (mut line, mut len) = (String::new(), 0);
            loop {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                match line.trim().to_lowercase().strip_prefix("content-length: ") {
                    Some(text) => len = text.parse().unwrap(),
                    None if line == "\r\n" => break,
                    None => {}
                }
            }
            let mut body = vec![0; len];
            reader.read_exact(&mut body).unwrap();
            let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(at_once, Ordering::SeqCst);
            if body == b"stall" {
                // Until the client goes away.
                let _ = reader.read(&mut [0]);
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
            now.fetch_sub(1, Ordering::SeqCst);
            let rows = "{\"results\":{\"bindings\":[]}}";
            let head = "HTTP/1.1 200 OK\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{rows}", rows.len());
        }
    }

    fn client(most_at_once: &Arc<AtomicUsize>) -> MetadataClient {
        let services = Services::of(Envri::Icos).with(Service::Meta, &service(most_at_once));
        let http = Http::new(Timeouts::of(Duration::from_secs(2))).unwrap();
        MetadataClient::new(http, services.unwrap())
    }

    #[tokio::test]
    async fn queries_that_are_answered_are_asked_one_at_a_time() {
        let most = Arc::default();
        let client = client(&most);
        let ask = |n: usize| client.sparql(format!("query {n}"));
        let answers = futures_util::future::join_all((0..20).map(ask)).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    /// All lookups waited for one that got no answer, as long as it did.
    #[tokio::test]
    async fn a_query_that_is_overdue_is_overtaken() {
        let most = Arc::default();
        let client = client(&most);
        let mut stalled = std::pin::pin!(client.sparql("stall".to_owned()));
        // It has its turn.
        let begun = tokio::time::timeout(Duration::from_millis(100), &mut stalled);
        assert!(begun.await.is_err());
        let quick = client.sparql("quick".to_owned());
        match select(stalled, std::pin::pin!(quick)).await {
            Either::Left(_) => panic!("the overdue one ended first"),
            Either::Right((answer, stalled)) => {
                answer.unwrap();
                assert!(matches!(stalled.await, Err(PortalError::TimedOut { .. })));
            }
        }
        // Others were answered since: the service is not to be left alone.
        client.sparql("next".to_owned()).await.unwrap();
    }
}
