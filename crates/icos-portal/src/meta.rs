//! The client of the metadata service: lists by SPARQL, landing pages as JSON.
//! It needs no login and never sends a token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use url::Url;

use super::error::parse_json;
use super::http::{Http, is_unknown_item};
use super::lists::{
    self, CollectionRow, ColumnRow, Cursor, ListEntry, MemberRow, ObjectRow, ObjectScope,
    ResultPage, SpecRow, StationRow, SuccessionRow, TextRow,
};
use super::sparql::QueryRows;
use super::{ObjectId, PortalError, Service, Services};

mod query_backoff;

use query_backoff::QueryBackoff;

/// Maximum length of a landing page, in bytes. Collections of everything come
/// closest.
const MAX_JSON: usize = 32 << 20;
/// Maximum length of the results of a query, in bytes. 10 000 rows with long
/// lists of columns are shorter.
const MAX_RESULTS: usize = 64 << 20;

/// The service aborts queries after 9 s. A query without a response after this
/// time is waiting for the network, so the next one may start.
const OVERDUE_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of queries at once. The service accepts 5 of one address.
const MAX_ACTIVE: usize = 4;

/// The subject of a landing page.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subject {
    /// An object or document.
    Object(ObjectId),
    /// A collection.
    Collection(ObjectId),
    /// A station, by the end of its IRI, e.g. `AS_HTM`.
    Station(String),
}

impl Subject {
    /// The subject of the landing page at `iri`; `None` for pages of other things.
    #[must_use]
    pub fn of_iri(iri: &str) -> Option<Self> {
        let (before, name) = iri.rsplit_once('/')?;
        let (_, kind) = before.rsplit_once('/')?;
        match kind {
            "objects" => Some(Self::Object(name.parse().ok()?)),
            "collections" => Some(Self::Collection(name.parse().ok()?)),
            "stations" => Some(Self::Station(name.to_owned())),
            _ => None,
        }
    }
}

/// Answers to queries that several machines send: each reads what another one has asked.
pub trait SharedAnswers: std::fmt::Debug + Send + Sync {
    /// Returns an answer to `query` that another machine got, if there is one and it is
    /// new enough, or else that of `request`.
    fn answer<'a>(
        &'a self,
        query: &'a str,
        request: BoxFuture<'a, Result<Bytes, PortalError>>,
    ) -> BoxFuture<'a, Result<Bytes, PortalError>>;

    /// Returns no more answers that other machines got before now.
    fn expect_new(&self);
}

/// A client of the metadata service.
#[derive(Clone, Debug)]
pub struct MetadataClient {
    http: Http,
    services: Services,
    /// Held by the query that the service is running. One query at a time
    /// cannot exceed the quota of query time, for which the service bans
    /// clients.
    running: Arc<Semaphore>,
    /// Held by all queries without a response, overdue ones included.
    active: Arc<Semaphore>,
    backoff: Arc<QueryBackoff>,
    /// The answers that it shares with other machines, if any.
    answers: Option<Arc<dyn SharedAnswers>>,
}

impl MetadataClient {
    /// Maximum number of rows of a list in one response; the limit of
    /// `icoscp_core`.
    pub const MAX_ROWS: usize = 10_000;

    /// Creates a client of the metadata service of `services`.
    #[must_use]
    pub fn new(http: Http, services: Services) -> Self {
        Self {
            http,
            services,
            running: Arc::new(Semaphore::new(1)),
            active: Arc::new(Semaphore::new(MAX_ACTIVE)),
            backoff: Arc::default(),
            answers: None,
        }
    }

    /// Returns a client that shares the answers to queries for complete lists.
    #[must_use]
    pub fn with_shared_answers(self, answers: Arc<dyn SharedAnswers>) -> Self {
        Self {
            answers: Some(answers),
            ..self
        }
    }

    /// From now on, lists are not older than now.
    pub fn expect_new_answers(&self) {
        if let Some(answers) = &self.answers {
            answers.expect_new();
        }
    }

    /// Returns the services.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    async fn json(&self, url: Url, what: &str) -> Result<Bytes, PortalError> {
        let request = self.http.get(url).header(ACCEPT, "application/json");
        let response = self.http.fetch(Service::Meta, request, MAX_JSON).await?;
        match response.status().as_u16() {
            200 => {
                let json = response.bytes(MAX_JSON).await?;
                // It may be an error page, or cut off by the end of the
                // connection.
                parse_json::<IgnoredAny>(Service::Meta, "JSON", &json)?;
                Ok(json)
            }
            // Unknown items cause status 500, with a reason that says so.
            _ => Err(match response.into_error(what).await {
                PortalError::Status {
                    status: 500,
                    reason,
                    ..
                } if is_unknown_item(&reason) => PortalError::NotFound {
                    what: what.to_owned(),
                    reason,
                },
                error => error,
            }),
        }
    }

    /// Returns the JSON of the landing page of `subject`, byte for byte.
    ///
    /// # Errors
    ///
    /// [`PortalError::NotFound`] if the subject does not exist.
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

    /// Runs a SPARQL SELECT query. Starts it when the previous queries have
    /// finished or are overdue. After a failed query, further ones fail at once
    /// for a while: for as long as the service states, if it does.
    pub async fn sparql(&self, query: String) -> Result<QueryRows, PortalError> {
        self.run_query(query, |json| QueryRows::parse(&json)).await
    }

    /// As [`MetadataClient::sparql`], for any query whose result is JSON: returns it byte
    /// for byte.
    pub async fn sparql_json(&self, query: String) -> Result<Bytes, PortalError> {
        self.run_query(query, |json| {
            // It may be cut off, or followed by the reason of a failure.
            parse_json::<IgnoredAny>(Service::Meta, "the result of a query", &json)?;
            Ok(json)
        })
        .await
    }

    async fn run_query<T>(
        &self,
        query: String,
        parse: impl Fn(Bytes) -> Result<T, PortalError>,
    ) -> Result<T, PortalError> {
        // The queries before may be waiting for a service that does not
        // respond.
        let timeout = self.http.stall_timeout();
        let admitted = async { (self.running.acquire().await, self.active.acquire().await) };
        let (running, _active) =
            tokio::time::timeout(timeout, admitted)
                .await
                .map_err(|_elapsed| PortalError::TimedOut {
                    service: Service::Meta,
                    waited: timeout,
                })?;
        if let Some(error) = self.backoff.error() {
            return Err(error);
        }
        let begun = Instant::now();
        let response = {
            let query = std::pin::pin!(self.send_query(query, parse));
            // The first attempt times out before this, however short the
            // timeout.
            let overdue = tokio::time::sleep(OVERDUE_AFTER.min(timeout / 4));
            match select(query, std::pin::pin!(overdue)).await {
                Either::Left((response, _)) => response,
                Either::Right(((), query)) => {
                    tracing::debug!("a query is overdue; the next one starts");
                    drop(running);
                    query.await
                }
            }
        };
        match &response {
            Ok(_) => self.backoff.record_response(),
            Err(error) => self.backoff.record_failure(error, begun),
        }
        response
    }

    async fn send_query<T>(
        &self,
        query: String,
        parse: impl Fn(Bytes) -> Result<T, PortalError>,
    ) -> Result<T, PortalError> {
        let request = self
            .http
            .request(Method::POST, self.services.url(Service::Meta, &["sparql"]))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "text/plain")
            .body(query);
        let response = self.http.fetch(Service::Meta, request, MAX_RESULTS).await?;
        if response.status().as_u16() != 200 {
            return Err(response.into_error("response to a query").await);
        }
        parse(response.bytes(MAX_RESULTS).await?)
    }

    /// Returns the objects and collections with a DOI, and whether each is the current
    /// version.
    pub async fn subjects_with_doi(&self, doi: &str) -> Result<Vec<(Subject, bool)>, PortalError> {
        // DOIs are equal in any case; the portal compares them as they are.
        let doi = [doi.to_owned(), doi.to_uppercase(), doi.to_lowercase()];
        self.subjects("hasDoi", &doi).await
    }

    /// Returns the objects with a file name, and whether each is the current version.
    pub async fn subjects_named(&self, name: &str) -> Result<Vec<(Subject, bool)>, PortalError> {
        self.subjects("hasName", &[name.to_owned()]).await
    }

    async fn subjects(
        &self,
        property: &str,
        wanted: &[String],
    ) -> Result<Vec<(Subject, bool)>, PortalError> {
        let rows = self.sparql(lists::subjects_query(property, wanted)).await?;
        let mut subjects: Vec<(Subject, bool)> = Vec::new();
        for row in rows.iter() {
            let Some(subject) = row.get("subject").and_then(Subject::of_iri) else {
                continue;
            };
            let is_current = row.get("next").is_none();
            match subjects.iter_mut().find(|(known, _)| *known == subject) {
                Some((_, known)) => *known &= is_current,
                None => subjects.push((subject, is_current)),
            }
        }
        Ok(subjects)
    }

    async fn list<T: ListEntry>(&self, query: String) -> Result<ResultPage<T>, PortalError> {
        Ok(lists::parse_page(&self.sparql(query).await?))
    }

    /// The same for a list that many machines download.
    async fn shared_list<T: ListEntry>(&self, query: String) -> Result<ResultPage<T>, PortalError> {
        let Some(answers) = &self.answers else {
            return self.list(query).await;
        };
        let request = Box::pin(self.sparql_json(query.clone()));
        let json = answers.answer(&query, request).await?;
        Ok(lists::parse_page(&QueryRows::parse(&json)?))
    }

    /// Returns up to [`MetadataClient::MAX_ROWS`] objects of `scope` from
    /// `cursor` on, oldest submission first. If the service sent fewer, they
    /// are the last.
    pub async fn objects(
        &self,
        scope: ObjectScope<'_>,
        cursor: Cursor,
    ) -> Result<ResultPage<ObjectRow>, PortalError> {
        let query = lists::objects(scope, cursor, Self::MAX_ROWS);
        self.shared_list(query).await
    }

    /// Returns up to [`MetadataClient::MAX_ROWS`] documents from `cursor` on,
    /// oldest submission first.
    pub async fn documents(
        &self,
        before: Option<Timestamp>,
        cursor: Cursor,
    ) -> Result<ResultPage<ObjectRow>, PortalError> {
        let query = lists::documents(before, cursor, Self::MAX_ROWS);
        self.shared_list(query).await
    }

    /// Returns the objects and documents with these ids, of any type and
    /// version. Unknown ids are left out.
    pub async fn objects_by_id(&self, ids: &[ObjectId]) -> Result<Vec<ObjectRow>, PortalError> {
        let query = lists::objects_by_id(self.services.envri(), ids);
        Ok(self.list(query).await?.rows)
    }

    /// Returns which objects were superseded by objects that were submitted
    /// from `since` until `before`.
    pub async fn successions(
        &self,
        since: Timestamp,
        before: Timestamp,
    ) -> Result<Vec<SuccessionRow>, PortalError> {
        let query = lists::successions(since, before);
        Ok(self.shared_list(query).await?.rows)
    }

    /// Returns all data types, ordered by label.
    pub async fn specs(&self) -> Result<Vec<SpecRow>, PortalError> {
        let query = lists::specs(self.services.envri());
        Ok(self.shared_list(query).await?.rows)
    }

    /// Returns one data type, even if [`MetadataClient::specs`] leaves it out.
    pub async fn spec(&self, iri: &str) -> Result<Option<SpecRow>, PortalError> {
        Ok(self.list(lists::spec(iri)).await?.rows.pop())
    }

    /// Returns the columns of all datasets.
    pub async fn columns(&self) -> Result<Vec<ColumnRow>, PortalError> {
        Ok(self.shared_list(lists::columns()).await?.rows)
    }

    /// Returns the repository's own stations, ordered by id.
    pub async fn stations(&self) -> Result<Vec<StationRow>, PortalError> {
        let query = lists::stations(self.services.envri());
        Ok(self.shared_list(query).await?.rows)
    }

    /// Returns all collections.
    pub async fn collections(&self) -> Result<Vec<CollectionRow>, PortalError> {
        Ok(self.shared_list(lists::collections()).await?.rows)
    }

    /// Returns up to [`MetadataClient::MAX_ROWS`] titles and keywords, from the row
    /// `offset` on.
    pub async fn texts(&self, offset: usize) -> Result<ResultPage<TextRow>, PortalError> {
        self.shared_list(lists::texts(offset, Self::MAX_ROWS)).await
    }

    /// Returns up to [`MetadataClient::MAX_ROWS`] members of all collections,
    /// or of the collection `of`, from the row `offset` on.
    pub async fn members(
        &self,
        of: Option<ObjectId>,
        offset: usize,
    ) -> Result<ResultPage<MemberRow>, PortalError> {
        let query = lists::members(self.services.envri(), of, offset, Self::MAX_ROWS);
        self.shared_list(query).await
    }

    /// Returns up to [`MetadataClient::MAX_ROWS`] ids of objects whose data
    /// were taken within west, south, east and north, in degrees, from the row
    /// `offset` on.
    pub async fn within(
        &self,
        bbox: [f64; 4],
        offset: usize,
    ) -> Result<ResultPage<ObjectId>, PortalError> {
        let query = lists::within(bbox, offset, Self::MAX_ROWS);
        self.list(query).await
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests may fail if no thread starts"
)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Envri;
    use crate::http::Timeouts;

    /// A service that responds to every query but `stall`, and counts its
    /// simultaneous queries.
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
                // Until the client disconnects.
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
    async fn sparql_runs_one_query_at_a_time() {
        let most = Arc::default();
        let client = client(&most);
        let query = |n: usize| client.sparql(format!("query {n}"));
        let results = futures_util::future::join_all((0..20).map(query)).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    /// Regression: all lookups waited for as long as one query that got no
    /// response.
    #[tokio::test]
    async fn sparql_starts_the_next_query_while_one_is_overdue() {
        let most = Arc::default();
        let client = client(&most);
        let mut stalled = std::pin::pin!(client.sparql("stall".to_owned()));
        // It starts.
        let begun = tokio::time::timeout(Duration::from_millis(100), &mut stalled);
        assert!(begun.await.is_err());
        let quick = client.sparql("quick".to_owned());
        match select(stalled, std::pin::pin!(quick)).await {
            Either::Left(_) => panic!("the overdue query ended first"),
            Either::Right((response, stalled)) => {
                response.unwrap();
                assert!(matches!(stalled.await, Err(PortalError::TimedOut { .. })));
            }
        }
        // Another query succeeded meanwhile, so there is no pause.
        client.sparql("next".to_owned()).await.unwrap();
    }
}
