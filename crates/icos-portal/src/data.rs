//! The data service: originals, columns of tables, CSV.
//!
//! Every answer counts as a download in the repository's public statistics:
//! ask for much at once, and seldom.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, COOKIE, HeaderName, RANGE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use url::Url;

use super::auth::{AuthError, Token, TokenProvider};
use super::http::{Http, Response, Retries};
use super::{ObjectId, PortalError, Service, Services};

/// The longest header line worth reading.
const HEADER_LIMIT: usize = 4 << 20;

/// A client of the data service.
#[derive(Clone, Debug)]
pub struct DataClient {
    http: Http,
    services: Services,
    auth: Option<Arc<dyn TokenProvider>>,
}

/// A request for columns of a table: the body of `POST /cpb`.
///
/// The service checks nothing: numbers out of range yield zeros or a broken
/// stream. Whoever builds one must know the table's schema.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnsRequest {
    /// The object.
    #[serde(serialize_with = "as_text")]
    pub table_id: ObjectId,
    /// Last segment of the object's format IRI.
    pub sub_folder: String,
    /// All columns and rows of the stored table.
    pub schema: StoredTable,
    /// Positions in `schema.columns` of the columns wanted.
    pub column_numbers: Vec<usize>,
    /// The rows wanted; all of them without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<RowSlice>,
}

/// What the service must know of a stored table.
#[derive(Clone, Debug, Serialize)]
pub struct StoredTable {
    /// Stored types (`INT`, `FLOAT`, …) of all columns, in stored order.
    pub columns: Vec<&'static str>,
    /// Number of rows.
    pub size: u64,
}

/// Some rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RowSlice {
    /// The first row.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

fn as_text<S: serde::Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// An original on its way. Where the connection breaks, it goes on.
#[derive(Debug)]
pub struct OriginalStream {
    /// Length of the whole original in bytes.
    pub total: u64,
    client: DataClient,
    id: ObjectId,
    retries: Retries,
    /// What is still to come.
    rest: Range<u64>,
    body: Response,
}

impl OriginalStream {
    /// All of it, as far as it has not been handed out yet.
    ///
    /// # Errors
    ///
    /// As [`OriginalStream::chunk`]; [`PortalError::BadResponse`] past `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, PortalError> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                return Err(PortalError::bad_response(
                    Service::Data,
                    format_args!("expected at most {limit} bytes, found more"),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// The next piece; `None` once all that was asked for has arrived.
    ///
    /// # Errors
    ///
    /// What kept the portal from delivering, however often it was asked.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        loop {
            let error = match self.body.chunk().await {
                Ok(Some(chunk)) => {
                    self.retries.progress();
                    self.rest.start += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                // More than was asked for is for the caller to judge.
                Ok(None) if self.rest.start >= self.rest.end => return Ok(None),
                Ok(None) => PortalError::ConnectionLost {
                    service: Service::Data,
                    received: self.body.received(),
                    reason: "the body is shorter than asked for".to_owned(),
                },
                Err(error) => error,
            };
            if !self.retries.back_off(&error).await {
                return Err(error);
            }
            let Range { start, end } = self.rest;
            let to = (end < self.total).then_some(end);
            let (total, body) = self
                .client
                .original_once(self.id, start, to, &mut self.retries)
                .await?;
            if total != self.total {
                return Err(PortalError::bad_response(
                    Service::Data,
                    format_args!(
                        "expected {} bytes of {}, found {total}",
                        self.total, self.id
                    ),
                ));
            }
            self.body = body;
        }
    }
}

/// ColumnStream on their way, one after another. Where the connection breaks, they
/// go on with the column that it broke in.
#[derive(Debug)]
pub struct ColumnStream {
    client: DataClient,
    request: ColumnsRequest,
    retries: Retries,
    /// How many bytes each column has.
    lengths: Vec<u64>,
    /// How many bytes have been handed out.
    received: u64,
    /// How many bytes of the answer were handed out before it began.
    again: u64,
    body: Response,
}

impl ColumnStream {
    /// How many bytes the service promises in all, if it does.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// The next piece; `None` once all columns have arrived.
    ///
    /// # Errors
    ///
    /// What kept the portal from delivering, however often it was asked.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        loop {
            let error = match self.body.chunk().await {
                Ok(Some(mut chunk)) => {
                    self.retries.progress();
                    let known = usize::try_from(self.again)
                        .unwrap_or(usize::MAX)
                        .min(chunk.len());
                    chunk.advance(known);
                    self.again -= known as u64;
                    self.received += chunk.len() as u64;
                    if chunk.is_empty() {
                        continue;
                    }
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                Err(error) => error,
            };
            if !self.retries.back_off(&error).await {
                return Err(error);
            }
            let (column, before) = self.broken_column();
            let mut rest = self.request.clone();
            rest.column_numbers.drain(..column);
            self.again = self.received - before;
            self.body = self.client.columns_once(&rest, &mut self.retries).await?;
        }
    }

    /// The column that the next byte is of, and how many bytes come before it.
    fn broken_column(&self) -> (usize, u64) {
        let mut before = 0;
        for (column, len) in self.lengths.iter().enumerate() {
            // The last one, if all has arrived but the end was not told.
            if self.received < before + len || column + 1 == self.lengths.len() {
                return (column, before);
            }
            before += len;
        }
        (0, 0)
    }
}

impl ColumnsRequest {
    /// How many bytes each column asked for has in the answer.
    fn lengths(&self) -> Vec<u64> {
        let rows = self.slice.map_or(self.schema.size, |slice| slice.length);
        self.column_numbers
            .iter()
            .map(|&number| {
                let width = match self.schema.columns.get(number).copied() {
                    Some("DOUBLE") => 8,
                    Some("CHAR") => 2,
                    Some("BYTE") => 1,
                    _ => 4,
                };
                rows * width
            })
            .collect()
    }
}

impl DataClient {
    /// A client of the data service among `services`; without `auth` it gets
    /// what is free for all.
    #[must_use]
    pub fn new(http: Http, services: Services, auth: Option<Arc<dyn TokenProvider>>) -> Self {
        Self {
            http,
            services,
            auth,
        }
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Who the user is to the portal.
    #[must_use]
    pub fn auth(&self) -> Option<&Arc<dyn TokenProvider>> {
        self.auth.as_ref()
    }

    /// The original from byte `from` on, until byte `to` (exclusive) or its
    /// end. Objects never change, and their ids prove it: no need of `If-Range`.
    ///
    /// # Errors
    ///
    /// [`PortalError::BadResponse`] if the service sends other bytes than asked.
    pub async fn original(
        &self,
        id: ObjectId,
        from: u64,
        to: Option<u64>,
    ) -> Result<OriginalStream, PortalError> {
        let mut retries = self.http.retries(Service::Data);
        let (total, body) = self.original_once(id, from, to, &mut retries).await?;
        Ok(OriginalStream {
            total,
            client: self.clone(),
            id,
            retries,
            rest: from..to.unwrap_or(total),
            body,
        })
    }

    /// Its length, and the body.
    async fn original_once(
        &self,
        id: ObjectId,
        from: u64,
        to: Option<u64>,
        retries: &mut Retries,
    ) -> Result<(u64, Response), PortalError> {
        let url = self
            .services
            .url(Service::Data, &["objects", &id.to_string()]);
        let range = match to {
            None if from == 0 => None,
            None => Some(format!("bytes={from}-")),
            Some(to) => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
        };
        let what = format!("object {id}");
        let body = self
            .authorised(&what, retries, || {
                let mut request = self.http.request(Method::GET, url.clone());
                if let Some(range) = &range {
                    request = request.header(RANGE, range);
                }
                request
            })
            .await?;
        let header = |name: &HeaderName| body.header(name);
        let unexpected = |found: String| {
            PortalError::bad_response(
                Service::Data,
                format_args!("expected bytes from {from} of {what}, found {found}"),
            )
        };
        let (offset, total) = match (body.status(), &range) {
            (StatusCode::OK, _) => {
                let total = body
                    .content_length()
                    .ok_or_else(|| unexpected("a body of unknown length".to_owned()))?;
                (0, total)
            }
            (StatusCode::PARTIAL_CONTENT, Some(_)) => {
                let text = header(&CONTENT_RANGE).unwrap_or_default();
                content_range(text).ok_or_else(|| unexpected(format!("{text:?}")))?
            }
            (status, _) => return Err(unexpected(status.to_string())),
        };
        if offset != from {
            return Err(unexpected(format!("bytes from {offset}")));
        }
        Ok((total, body))
    }

    /// ColumnStream of a table, one after another, big-endian.
    pub async fn columns(&self, request: &ColumnsRequest) -> Result<ColumnStream, PortalError> {
        let mut retries = self.http.retries(Service::Data);
        let body = self.columns_once(request, &mut retries).await?;
        Ok(ColumnStream {
            client: self.clone(),
            request: request.clone(),
            retries,
            lengths: request.lengths(),
            received: 0,
            again: 0,
            body,
        })
    }

    async fn columns_once(
        &self,
        request: &ColumnsRequest,
        retries: &mut Retries,
    ) -> Result<Response, PortalError> {
        let what = format!("table {}", request.table_id);
        let url = self.services.url(Service::Data, &["cpb"]);
        let json = serde_json::to_vec(request)
            .map_err(|error| PortalError::bad_response(Service::Data, error))?;
        let answer = self
            .authorised(&what, retries, || {
                self.http
                    .request(Method::POST, url.clone())
                    .header(CONTENT_TYPE, "application/json")
                    .body(json.clone())
            })
            .await?;
        expect_ok(answer, &what).await
    }

    /// The portal's own CSV of a table, whole, or its first `limit` rows.
    pub async fn csv(&self, id: ObjectId, limit: Option<u64>) -> Result<Response, PortalError> {
        let what = format!("table {id}");
        let mut url = self.services.url(Service::Data, &["csv", &id.to_string()]);
        if let Some(limit) = limit {
            url.set_query(Some(&format!("limit={limit}")));
        }
        let mut retries = self.http.retries(Service::Data);
        let answer = self
            .authorised(&what, &mut retries, || {
                self.http.request(Method::GET, url.clone())
            })
            .await?;
        expect_ok(answer, &what).await
    }

    /// The header line of the portal's own CSV of a table, with its end.
    pub async fn csv_header(&self, id: ObjectId) -> Result<Bytes, PortalError> {
        let mut retries = self.retries();
        loop {
            let header = async { self.csv(id, Some(0)).await?.bytes(HEADER_LIMIT).await };
            match header.await {
                Err(error) if retries.back_off(&error).await => {}
                header => return header,
            }
        }
    }

    /// The tries for what must be asked for anew as a whole.
    #[must_use]
    pub fn retries(&self) -> Retries {
        self.http.retries(Service::Data)
    }

    /// Sends what `request` makes, with the user's cookie if there is one, and
    /// turns refusals into errors. A refused token is replaced once: the
    /// portal's word counts more than our clock.
    pub(super) async fn authorised(
        &self,
        what: &str,
        retries: &mut Retries,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, PortalError> {
        // Some objects are free for all, so without a token we try as anyone.
        let mut token = match &self.auth {
            None => Err(None),
            Some(provider) => provider.token().await.map_err(Some),
        };
        let mut replaced = false;
        loop {
            let with_cookie = match &token {
                Ok(token) => request().header(COOKIE, token.header()),
                Err(_) => request(),
            };
            let answer = self
                .http
                .send_within(retries, Service::Data, &with_cookie)
                .await?;
            let refusal = match self.refusal(answer, what, &token).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            };
            match (&refusal, &token, &self.auth) {
                (PortalError::Unauthorized { .. }, Ok(refused), Some(provider)) if !replaced => {
                    tracing::info!(user = refused.user(), "the portal refused the token");
                    token = Ok(provider.replace(Arc::clone(refused)).await?);
                    replaced = true;
                }
                _ => return Err(refusal),
            }
        }
    }

    /// Sorts the refusals out of the answers.
    async fn refusal(
        &self,
        answer: Response,
        what: &str,
        token: &Result<Arc<Token>, Option<AuthError>>,
    ) -> Result<Response, PortalError> {
        let what_owned = || what.to_owned();
        let status = answer.status();
        let redirected = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
        if !redirected && !matches!(status.as_u16(), 401 | 403 | 404) {
            return Ok(answer);
        }
        if status == StatusCode::NOT_FOUND {
            let reason = answer.reason().await;
            let withheld = ["moratorium", "distributed", "policy", "third part"];
            return Err(if withheld.iter().any(|word| reason.contains(word)) {
                PortalError::Withheld {
                    what: what_owned(),
                    reason,
                }
            } else {
                PortalError::NotFound {
                    what: what_owned(),
                    reason,
                }
            });
        }
        let token = match token {
            Ok(token) => token,
            Err(None | Some(AuthError::NotLoggedIn)) => {
                return Err(PortalError::LoginRequired { what: what_owned() });
            }
            Err(Some(error)) => return Err(error.clone().into()),
        };
        let licence = || PortalError::LicenceNotAccepted {
            page: self.services.account_page(),
        };
        if redirected {
            // To the licence page, also if the token was not accepted: only
            // `whoami` tells.
            return Err(if self.is_known(token).await? {
                licence()
            } else {
                PortalError::Unauthorized { what: what_owned() }
            });
        }
        let reason = answer.reason().await;
        Err(match status {
            StatusCode::UNAUTHORIZED => PortalError::Unauthorized { what: what_owned() },
            _ if reason.to_lowercase().contains("licence") => licence(),
            _ => PortalError::Withheld {
                what: what_owned(),
                reason,
            },
        })
    }

    /// Whether the data service recognises `token`.
    async fn is_known(&self, token: &Token) -> Result<bool, PortalError> {
        #[derive(serde::Deserialize)]
        struct Whoami {
            email: Option<String>,
        }
        let url: Url = self.services.url(Service::Data, &["whoami"]);
        let request = self
            .http
            .request(Method::GET, url)
            .header(COOKIE, token.header());
        let answer = self.http.fetch(Service::Data, request, 64 << 10).await?;
        let body = expect_ok(answer, "whoami").await?.bytes(64 * 1024).await?;
        serde_json::from_slice::<Whoami>(&body)
            .map(|whoami| whoami.email.is_some())
            .map_err(|error| PortalError::bad_response(Service::Data, error))
    }
}

pub(super) async fn expect_ok(answer: Response, what: &str) -> Result<Response, PortalError> {
    if answer.status() == StatusCode::OK {
        Ok(answer)
    } else {
        Err(answer.into_error(what).await)
    }
}

/// First byte and total of `bytes first-last/total`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for bad in ["", "bytes */10", "bytes 5-9/*", "5-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_columns_request_is_the_python_librarys() {
        let request = ColumnsRequest {
            table_id: "UNhY4JhezH9gQYqvDMWrWH9C".parse().unwrap(),
            sub_folder: "asciiAtcProductTimeSer".to_owned(),
            schema: StoredTable {
                columns: vec!["CHAR", "DOUBLE"],
                size: 9,
            },
            column_numbers: vec![1],
            slice: Some(RowSlice {
                offset: 3,
                length: 2,
            }),
        };
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            serde_json::json!({
                "tableId": "UNhY4JhezH9gQYqvDMWrWH9C",
                "subFolder": "asciiAtcProductTimeSer",
                "schema": {"columns": ["CHAR", "DOUBLE"], "size": 9},
                "columnNumbers": [1],
                "slice": {"offset": 3, "length": 2}
            })
        );
    }
}
