//! The client of the data service: originals, columns of tables, CSV.
//!
//! The portal counts every request as a download in its public statistics, so
//! callers prefer few, large requests. The streams are in `stream`, the login
//! in `authorised`.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, StatusCode};
use serde::Serialize;

use super::auth::TokenProvider;
use super::http::{Http, ObjectCosts, Response, Retries, TrafficGate, TrafficLimits};
use super::{ObjectId, PortalError, Service, Services};

mod authorised;
mod stream;

pub(super) use authorised::expect_ok;
pub use stream::{ColumnStream, OriginalStream};

/// How many bytes of a response are skipped at most, if the service ignores the range of
/// a request: bytes that every such request transfers in vain.
const MAX_SKIP: u64 = 8 << 20;

/// Maximum length of the header line of a CSV, in bytes.
const MAX_HEADER: usize = 4 << 20;

/// A client of the data service.
#[derive(Clone, Debug)]
pub struct DataClient {
    http: Http,
    services: Services,
    auth: Option<Arc<dyn TokenProvider>>,
    costs: Arc<ObjectCosts>,
    gate: Option<Arc<TrafficGate>>,
}

/// A request for columns of a table: the body of `POST /cpb`.
///
/// The service does not validate it: numbers out of range yield zeros or a
/// broken stream. The caller must know the schema of the table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnsRequest {
    /// The object.
    #[serde(serialize_with = "as_text")]
    pub table_id: ObjectId,
    /// Last segment of the IRI of the format of the object.
    pub sub_folder: String,
    /// All columns and rows of the stored table.
    pub schema: StoredTable,
    /// Positions in `schema.columns` of the requested columns.
    pub column_numbers: Vec<usize>,
    /// The requested rows; all rows if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice: Option<RowSlice>,
}

/// The schema of a stored table, as the service needs it.
#[derive(Clone, Debug, Serialize)]
pub struct StoredTable {
    /// Stored types (`INT`, `FLOAT`, ...) of all columns, in stored order.
    pub columns: Vec<&'static str>,
    /// Number of rows.
    pub size: u64,
}

/// The response to a request for an original.
struct OriginalResponse {
    /// Length of the complete original in bytes.
    total: u64,
    /// If the body is the complete original, although a part of it was requested: the
    /// number of bytes before that part.
    skip: Option<u64>,
    body: Response,
}

/// A range of rows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RowSlice {
    /// The first row.
    pub offset: u64,
    /// Number of rows.
    pub length: u64,
}

fn as_text<S: serde::Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl ColumnsRequest {
    /// Returns the number of bytes of each requested column in the response.
    #[must_use]
    pub fn column_lengths(&self) -> Vec<u64> {
        let rows = self.slice.map_or(self.schema.size, |slice| slice.length);
        self.column_numbers
            .iter()
            .map(|&number| {
                let column = self.schema.columns.get(number).copied();
                rows * width(column.unwrap_or_default())
            })
            .collect()
    }
}

impl StoredTable {
    /// The number of bytes of all columns.
    fn len(&self) -> u64 {
        let row: u64 = self.columns.iter().map(|column| width(column)).sum();
        row.saturating_mul(self.size)
    }
}

/// The number of bytes of a value of a stored type.
fn width(stored_type: &str) -> u64 {
    match stored_type {
        "DOUBLE" => 8,
        "CHAR" => 2,
        "BYTE" => 1,
        _ => 4,
    }
}

impl DataClient {
    /// Creates a client of the data service of `services`. Without `auth`, it
    /// can only request data that needs no login.
    #[must_use]
    pub fn new(http: Http, services: Services, auth: Option<Arc<dyn TokenProvider>>) -> Self {
        Self {
            http,
            services,
            auth,
            costs: Arc::default(),
            gate: None,
        }
    }

    /// Limits what each object may cost within an hour.
    #[must_use]
    pub fn with_costs(self, costs: Arc<ObjectCosts>) -> Self {
        Self { costs, ..self }
    }

    /// Limits the requests and bodies of this client and its clones.
    #[must_use]
    pub fn with_limits(self, limits: TrafficLimits) -> Self {
        let gate = Some(Arc::new(TrafficGate::new(limits)));
        Self { gate, ..self }
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Returns the provider of tokens.
    #[must_use]
    pub fn auth(&self) -> Option<&Arc<dyn TokenProvider>> {
        self.auth.as_ref()
    }

    /// Requests the original from byte `from` to byte `to` (exclusive), or to
    /// its end. `If-Range` is not needed: objects are immutable, and their ids
    /// verify them.
    ///
    /// # Errors
    ///
    /// [`PortalError::BadResponse`] if the service sends other bytes than
    /// requested; else as [`DataClient::columns`].
    pub async fn original(
        &self,
        id: ObjectId,
        from: u64,
        to: Option<u64>,
    ) -> Result<OriginalStream, PortalError> {
        let mut retries = self.retries(id);
        let OriginalResponse { total, skip, body } =
            self.original_once(id, from, to, &mut retries).await?;
        Ok(OriginalStream {
            total,
            client: self.clone(),
            id,
            retries,
            rest: from..to.unwrap_or(total),
            skip,
            body,
        })
    }

    /// Makes one request, and returns the response to it. A service, or a proxy before
    /// it, may ignore the range: then the bytes before it are skipped, if they are few.
    async fn original_once(
        &self,
        id: ObjectId,
        from: u64,
        to: Option<u64>,
        retries: &mut Retries,
    ) -> Result<OriginalResponse, PortalError> {
        let path = ["objects", &id.to_string()];
        let url = self.services.url(Service::Data, &path);
        let range = match to {
            None if from == 0 => None,
            None => Some(format!("bytes={from}-")),
            Some(to) => Some(format!("bytes={from}-{}", to.saturating_sub(1))),
        };
        let what = format!("object {id}");
        let response = self
            .authorised(&what, retries, || {
                let request = self.http.get(url.clone());
                match &range {
                    Some(range) => request.header(RANGE, range),
                    None => request,
                }
            })
            .await?;
        if !response.status().is_success() {
            return Err(response.into_error(&what).await);
        }
        let unexpected = |found: String| {
            PortalError::bad_response(
                Service::Data,
                format_args!("expected bytes from {from} of {what}, found {found}"),
            )
        };
        let (offset, total) = match (response.status(), &range) {
            (StatusCode::OK, _) => {
                let total = response
                    .content_length()
                    .ok_or_else(|| unexpected("a body of unknown length".to_owned()))?;
                (0, total)
            }
            (StatusCode::PARTIAL_CONTENT, Some(_)) => {
                let text = response.header(&CONTENT_RANGE).unwrap_or_default();
                content_range(text).ok_or_else(|| unexpected(format!("{text:?}")))?
            }
            (status, _) => return Err(unexpected(status.to_string())),
        };
        let ignored = response.status() == StatusCode::OK && range.is_some();
        if ignored && from > MAX_SKIP {
            return Err(unexpected(
                "all bytes: the service, or a proxy before it, ignores ranges; read the file from its start"
                    .to_owned(),
            ));
        }
        if offset != from && !ignored {
            return Err(unexpected(format!("bytes from {offset}")));
        }
        retries.record_len(total);
        let skip = if ignored { Some(from) } else { None };
        Ok(OriginalResponse {
            total,
            skip,
            body: response,
        })
    }

    /// Requests columns of a table. They arrive one after another, big-endian.
    ///
    /// # Errors
    ///
    /// [`PortalError::LoginRequired`], [`PortalError::Unauthorized`],
    /// [`PortalError::LicenceNotAccepted`], [`PortalError::Withheld`] or
    /// [`PortalError::NotFound`] if the portal refuses;
    /// [`PortalError::OverLimit`] if the table has cost too much; other variants
    /// if the portal cannot be reached or fails.
    pub async fn columns(&self, request: &ColumnsRequest) -> Result<ColumnStream, PortalError> {
        let mut retries = self.retries(request.table_id);
        retries.record_len(request.schema.len());
        let body = self.columns_once(request, &mut retries).await?;
        Ok(ColumnStream {
            client: self.clone(),
            request: request.clone(),
            retries,
            lengths: request.column_lengths(),
            received: 0,
            skip: 0,
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
        let response = self
            .authorised(&what, retries, || {
                self.http
                    .request(Method::POST, url.clone())
                    .header(CONTENT_TYPE, "application/json")
                    .body(json.clone())
            })
            .await?;
        expect_ok(response, &what).await
    }

    /// Requests the portal's own CSV of a table, complete or only its first
    /// `limit` rows. The caller repeats the request with the same `retries` if
    /// the body does not arrive.
    pub async fn csv(
        &self,
        id: ObjectId,
        limit: Option<u64>,
        retries: &mut Retries,
    ) -> Result<Response, PortalError> {
        let what = format!("table {id}");
        let mut url = self.services.url(Service::Data, &["csv", &id.to_string()]);
        if let Some(limit) = limit {
            url.set_query(Some(&format!("limit={limit}")));
        }
        self.get(&what, url, retries).await
    }

    /// Returns the header line of the portal's own CSV of a table, with its
    /// line end.
    pub async fn csv_header(&self, id: ObjectId) -> Result<Bytes, PortalError> {
        let mut retries = self.retries(id);
        loop {
            let header = async {
                let response = self.csv(id, Some(0), &mut retries).await?;
                response.bytes(MAX_HEADER).await
            };
            match header.await {
                Err(error) if retries.back_off(&error).await => {}
                header => return header,
            }
        }
    }

    /// Returns the retries of a request for data of `object`, at its cost.
    #[must_use]
    pub fn retries(&self, object: ObjectId) -> Retries {
        let cost = self.costs.of(object);
        let retries = self.http.retries(Service::Data).at_the_cost_of(cost);
        match &self.gate {
            Some(gate) => retries.delayed_by(Arc::clone(gate)),
            None => retries,
        }
    }
}

/// Returns the first byte and the total length of `bytes first-last/total`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _last) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_parses_valid_ranges_only() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for bad in ["", "bytes */10", "bytes 5-9/*", "5-9/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn columns_request_serializes_like_the_python_library() {
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
