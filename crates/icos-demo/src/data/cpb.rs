//! `POST /cpb`: columns of a `.cpb` file as bytes.
//!
//! The service trusts the request: it computes the offset of a column from the
//! schema that the client sends, and checks no range. The result of a wrong
//! range depends on how Java reads files (see [`read_column`]).

use std::io;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use serde::Deserialize;

use super::licence;
use crate::http::{DemoReply, DemoRequest, append_header, exception, pieces, reply, text};
use crate::state::PortalState;
use crate::table::DemoTable;
use icos_portal::ObjectId;

/// The service reads columns below this size and maps larger ones.
const MAPPED_FROM: u64 = 10_000;

/// Bytes to compute at a time.
const PIECE: u64 = 1 << 18;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TableRequest {
    table_id: String,
    sub_folder: String,
    schema: RequestSchema,
    column_numbers: Vec<i64>,
    slice: Option<RequestedRows>,
}

#[derive(Deserialize)]
struct RequestSchema {
    columns: Vec<DataType>,
    size: i64,
}

#[derive(Deserialize)]
struct RequestedRows {
    offset: i64,
    length: i32,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
enum DataType {
    Int,
    Float,
    Double,
    Short,
    Char,
    Byte,
    String,
}

impl DataType {
    fn width(self) -> i64 {
        match self {
            Self::Byte => 1,
            Self::Short | Self::Char => 2,
            Self::Int | Self::Float | Self::String => 4,
            Self::Double => 8,
        }
    }
}

pub(super) fn answer(state: &PortalState, request: &DemoRequest) -> DemoReply {
    if let Some(refusal) = licence::refusal(state, request, "binary") {
        return refusal;
    }
    let is_json = request
        .header(CONTENT_TYPE)
        .is_some_and(|kind| kind.starts_with("application/json"));
    let table_request = serde_json::from_slice::<TableRequest>(&request.body).ok();
    let id = table_request.as_ref().and_then(|r| r.table_id.parse().ok());
    match table_request.zip(id).filter(|_| is_json) {
        Some((table_request, id)) => serve(state, &table_request, &id),
        None => text(
            StatusCode::BAD_REQUEST,
            "Expected a proper binary table request",
        ),
    }
}

fn serve(state: &PortalState, table_request: &TableRequest, id: &ObjectId) -> DemoReply {
    let repository = &state.repository;
    let columns = &table_request.schema.columns;
    let size = table_request.schema.size;
    let (offset, rows) = match &table_request.slice {
        Some(slice) => (slice.offset, slice.length.into()),
        None => (0, size),
    };
    let mut parts = Vec::new();
    for &number in &table_request.column_numbers {
        let index = usize::try_from(number).ok();
        let Some((before, [column, ..])) = index.and_then(|at| columns.split_at_checked(at)) else {
            return exception(
                "java.lang.ArrayIndexOutOfBoundsException",
                &format!("Index {number} out of bounds for length {}", columns.len()),
            );
        };
        let start = (before.iter())
            .map(|column| column.width().saturating_mul(size))
            .fold(offset.saturating_mul(column.width()), i64::saturating_add);
        parts.push((start, rows.saturating_mul(column.width())));
    }
    let lengths = parts.iter().map(|(_, length)| *length);
    let length = lengths.fold(0, i64::saturating_add);
    if columns.contains(&DataType::String) {
        return exception(
            "java.lang.AssertionError",
            "assertion failed: Only numeric BinTables can be fetched as binary data.",
        );
    }
    let stored = repository.storage_folder(id) == Some(&*table_request.sub_folder);
    let table = repository.table(id).filter(|_| stored);
    let reason = repository.unreadable(id);
    let (Some(table), None) = (table, &reason) else {
        let missing = || format!("Binary file not found for object {id}");
        return exception(
            "se.lu.nateko.cp.data.api.CpDataException",
            &reason.unwrap_or_else(missing),
        );
    };
    let Ok(length) = u64::try_from(length) else {
        return exception(
            "java.lang.IllegalArgumentException",
            "requirement failed: contentLength must be positive",
        );
    };
    let parts = parts
        .into_iter()
        .flat_map(move |(start, part)| read_column(&table, start, part));
    let body = pieces(parts);
    let mut reply = reply(StatusCode::OK, "application/octet-stream", body);
    append_header(&mut reply, CONTENT_LENGTH, &length.to_string());
    reply
}

/// Reads the bytes at `start` of the table's file as Java does. A small part is
/// read into an array of zeros, which remain beyond the end of the file. A
/// large part is mapped, which fails beyond the end. A negative offset or
/// length fails too. A failure closes the connection, since the status has been
/// sent.
fn read_column(
    table: &Arc<DemoTable>,
    start: i64,
    length: i64,
) -> impl Iterator<Item = io::Result<Bytes>> + Send + use<> {
    let place = u64::try_from(start).ok().zip(u64::try_from(length).ok());
    let place = place.map(|(start, length)| (start, start.saturating_add(length)));
    let place = place.filter(|(start, end)| {
        let mapped = end - start >= MAPPED_FROM;
        !mapped || *end <= table.file_size()
    });
    let past_end = || Err(io::Error::other("read past the end of the file"));
    let failure = place.is_none().then(past_end);
    let (mut at, end) = place.unwrap_or_default();
    let table = Arc::clone(table);
    let pieces = std::iter::from_fn(move || {
        (at < end).then(|| {
            let length = (end - at).min(PIECE);
            let mut piece = table.read_file(at, length);
            piece.resize(usize::try_from(length).unwrap_or(0), 0);
            at += length;
            Ok(Bytes::from(piece))
        })
    });
    failure.into_iter().chain(pieces)
}
