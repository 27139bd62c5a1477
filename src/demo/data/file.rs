//! A file as Akka HTTP sends it: content type by extension, validators, ranges.

use std::io;
use std::ops::Range;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};

use crate::demo::content::Original;
use crate::demo::http::{Ask, Reply, put, reply};

/// No part of the file lies in the ranges asked for.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Unsatisfiable;

/// The answer to a request for `original`, called `name`.
pub(super) fn send(
    ask: &Ask,
    original: &Original,
    name: &str,
    modified: jiff::Timestamp,
) -> Result<Reply, Unsatisfiable> {
    let size = original.size();
    let date = http_date(modified);
    let millis = modified.as_second() * 1000;
    let tag = format!("\"{:x}\"", millis.cast_unsigned() ^ size.reverse_bits());
    let mut reply = if is_unchanged(ask, &tag, &date) {
        let mut reply = Reply::new(Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let wanted = ask.header(RANGE).and_then(|header| ranges(header, size));
        let range = match wanted.filter(|_| range_applies(ask, &tag, &date)) {
            None => None,
            Some(ranges) => Some(ranges.into_iter().next().ok_or(Unsatisfiable)?),
        };
        body(original, name, range)
    };
    put(&mut reply, ETAG, &tag);
    put(&mut reply, LAST_MODIFIED, &date);
    Ok(reply)
}

fn body(original: &Original, name: &str, range: Option<Range<u64>>) -> Reply {
    let size = original.size();
    let (content_type, encoding) = content_type(name);
    let part = range.clone().unwrap_or(0..size);
    let pieces = original.pieces(part.clone()).map(Ok::<_, io::Error>);
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let status = match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let mut reply = reply(status, content_type, body);
    let length = part.end - part.start;
    put(&mut reply, CONTENT_LENGTH, &length.to_string());
    put(&mut reply, ACCEPT_RANGES, "bytes");
    if let Some(encoding) = encoding {
        put(&mut reply, CONTENT_ENCODING, encoding);
    }
    if range.is_some() {
        let last = part.end - 1;
        let content_range = format!("bytes {}-{last}/{size}", part.start);
        put(&mut reply, CONTENT_RANGE, &content_range);
    }
    reply
}

/// Names the file the answer is to be kept as.
pub(super) fn attachment(reply: &mut Reply, name: &str) {
    let ascii: String = (name.chars())
        .map(|c| {
            if c.is_ascii() && !c.is_control() {
                c
            } else {
                '?'
            }
        })
        .flat_map(|c| {
            matches!(c, '"' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect();
    let mut disposition = format!("attachment; filename=\"{ascii}\"");
    if ascii != name {
        let encoded =
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        disposition.push_str(&format!("; filename*=UTF-8''{encoded}"));
    }
    put(reply, CONTENT_DISPOSITION, &disposition);
}

fn is_unchanged(ask: &Ask, tag: &str, date: &str) -> bool {
    match ask.header(IF_NONE_MATCH) {
        Some(tags) => tags == "*" || tags.split(',').any(|t| weak(t) == tag),
        None => ask.header(IF_MODIFIED_SINCE) == Some(date),
    }
}

fn weak(tag: &str) -> &str {
    tag.trim().trim_start_matches("W/")
}

/// Whether `If-Range`, if there is one, still holds.
fn range_applies(ask: &Ask, tag: &str, date: &str) -> bool {
    ask.header(IF_RANGE)
        .is_none_or(|condition| condition == tag || condition == date)
}

/// The satisfiable ranges of a well-formed header; nothing if it is malformed,
/// which Akka takes for no header.
fn ranges(header: &str, size: u64) -> Option<Vec<Range<u64>>> {
    let mut found = Vec::new();
    for spec in header.strip_prefix("bytes=")?.split(',') {
        let (first, last) = spec.trim().split_once('-')?;
        let number = |text: &str| text.parse::<u64>();
        let range = match (first.is_empty(), last.is_empty()) {
            (true, true) => return None,
            (true, false) => size.saturating_sub(number(last).ok()?)..size,
            (false, true) => number(first).ok()?..size,
            (false, false) => {
                let (first, last) = (number(first).ok()?, number(last).ok()?);
                if last < first {
                    return None;
                }
                first..last.saturating_add(1).min(size)
            }
        };
        if range.start < range.end {
            found.push(range);
        }
    }
    Some(found)
}

/// The content type of a file name, and the encoding it reveals.
fn content_type(name: &str) -> (&'static str, Option<&'static str>) {
    let lower = name.to_lowercase();
    if let Some(inner) = lower.strip_suffix(".gz")
        && inner.contains('.')
    {
        return (by_extension(inner), Some("gzip"));
    }
    (by_extension(&lower), None)
}

fn by_extension(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "csv" => "text/csv; charset=UTF-8",
        "txt" | "log" | "conf" => "text/plain; charset=UTF-8",
        "htm" | "html" => "text/html; charset=UTF-8",
        "xml" => "text/xml; charset=UTF-8",
        "json" => "application/json",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        _ => "application/octet-stream",
    }
}

fn http_date(time: jiff::Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_headers_are_read_as_akka_does() {
        for (header, expected) in [
            ("bytes=0-9", Some(vec![0..10])),
            ("bytes=90-", Some(vec![90..100])),
            ("bytes=-10", Some(vec![90..100])),
            ("bytes=-1000", Some(vec![0..100])),
            ("bytes=50-1000", Some(vec![50..100])),
            ("bytes=0-0, 99-99", Some(vec![0..1, 99..100])),
            ("bytes=100-", Some(vec![])),
            ("bytes=-0", Some(vec![])),
            ("bytes=9-1", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("lines=0-9", None),
        ] {
            assert_eq!(ranges(header, 100), expected, "{header}");
        }
    }

    #[test]
    fn a_gzipped_text_is_sent_as_encoded_text() {
        assert_eq!(
            content_type("flux.CSV.gz"),
            ("text/csv; charset=UTF-8", Some("gzip"))
        );
        assert_eq!(content_type("a.nc"), ("application/octet-stream", None));
    }
}
