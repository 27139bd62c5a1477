//! `GET /csv/<id>`: a table, or part of it, as CSV.

use std::io;
use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;

use super::file::attachment;
use super::licence;
use crate::http::{DemoReply, DemoRequest, exception, pieces, reply};
use crate::state::PortalState;
use crate::table::DemoTable;
use icos_portal::ObjectId;

/// Cells to render at a time, so that no piece occupies a thread for long.
const CELLS: u64 = 2048;

pub(super) fn answer(state: &PortalState, request: &DemoRequest, id: &ObjectId) -> DemoReply {
    if let Some(refusal) = licence::refusal(state, request, "CSV") {
        return refusal;
    }
    // Akka rejects a malformed number; the next matching route replies with
    // this.
    let Ok(selection) = CsvRequest::read(request) else {
        return licence::login_required(state, "CSV");
    };
    match table(state, id, &selection) {
        Ok((table, name)) => send(&table, &selection, &name),
        Err(failed) => *failed,
    }
}

/// The part of the table that the request selects.
struct CsvRequest {
    columns: Option<Vec<String>>,
    offset: Option<i64>,
    limit: Option<i32>,
}

impl CsvRequest {
    fn read(request: &DemoRequest) -> Result<Self, std::num::ParseIntError> {
        let columns: Vec<_> = (request.query.iter())
            .filter(|(key, _)| key == "col")
            .map(|(_, value)| value.clone())
            .collect();
        Ok(Self {
            columns: (!columns.is_empty()).then_some(columns),
            offset: request.parameter("offset").map(str::parse).transpose()?,
            limit: request.parameter("limit").map(str::parse).transpose()?,
        })
    }

    /// `x.zip` becomes `x_2_cols_offset_10_limit_5.csv`.
    fn file_name(&self, original: &str) -> String {
        let stem = original.rsplit_once('.').map_or(original, |(stem, _)| stem);
        let columns = self.columns.as_ref().map(|c| format!("_{}_cols", c.len()));
        let offset = self.offset.map(|offset| format!("_offset_{offset}"));
        let limit = self.limit.map(|limit| format!("_limit_{limit}"));
        let choices = [columns, offset, limit].into_iter().flatten();
        format!("{stem}{}.csv", choices.collect::<String>())
    }
}

/// Returns the table and the file's name, or the reply of a failure.
fn table(
    state: &PortalState,
    id: &ObjectId,
    selection: &CsvRequest,
) -> Result<(Arc<DemoTable>, String), Box<DemoReply>> {
    let repository = &state.repository;
    let failed = |class: &str, message: &str| Err(Box::new(exception(class, message)));
    let object = repository.object(id);
    let Some((object, table)) = object.zip(repository.table(id)) else {
        let iri = format!("{}{id}", repository.envri().landing_prefix());
        return failed(
            "java.lang.Exception",
            &format!("Data object not found: {iri}"),
        );
    };
    let rows = i64::try_from(table.rows()).unwrap_or(i64::MAX);
    // The service reads nothing past the end, so nothing fails there.
    if selection.offset.unwrap_or(0) < rows {
        if let Some(why) = state.repository.unreadable(id) {
            return failed("se.lu.nateko.cp.data.api.CpDataException", &why);
        }
        if table.has_text() {
            return failed(
                "java.lang.AssertionError",
                "assertion failed: string-value columns in BinTable are not supported in BinTableRowReader",
            );
        }
    }
    let name = selection.file_name(object.text("cpmeta:hasName").unwrap_or("table"));
    Ok((table, name))
}

fn send(table: &Arc<DemoTable>, selection: &CsvRequest, name: &str) -> DemoReply {
    let selected = table.select(selection.columns.as_deref());
    let rows = i64::try_from(table.rows()).unwrap_or(i64::MAX);
    let offset = selection.offset.unwrap_or(0);
    let limit = selection.limit.map_or(i64::MAX, i64::from);
    let end = offset.saturating_add(limit.min(rows.saturating_sub(offset)));
    let header = table.csv_header(&selected);
    let table = Arc::clone(table);
    let step = (CELLS / (selected.len() as u64).max(1)).max(1);
    // The service notices a negative offset or limit only when it reads.
    let bounds = (offset >= rows || (offset >= 0 && end >= offset))
        .then(|| (offset.cast_unsigned(), end.max(offset).cast_unsigned()));
    let mut at = bounds.map_or(0, |(start, _)| start);
    let rows = std::iter::from_fn(move || {
        let Some((_, end)) = bounds else {
            return Some(Err(io::Error::other("rows out of bounds")));
        };
        (at < end).then(|| {
            let next = (at + step).min(end);
            let piece = table.csv_rows(&selected, at..next);
            at = next;
            piece
                .map(Bytes::from)
                .map_err(|_| io::Error::other("not a date"))
        })
    });
    let all = std::iter::once(Ok(Bytes::from(header))).chain(rows);
    let body = pieces(all);
    let mut reply = reply(StatusCode::OK, "text/csv; charset=UTF-8", body);
    attachment(&mut reply, name);
    reply
}
