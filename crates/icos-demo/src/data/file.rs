//! Sends a file as Akka HTTP does: content type by extension, validators,
//! ranges.

use std::fmt::Write as _;
use std::ops::Range;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;

use crate::content::OriginalContent;
use crate::http::{DemoReply, DemoRequest, append_header, http_date, pieces, reply, text};

/// Returns the reply to a request for `original`, a file called `name`; `None` if
/// the requested ranges are unsatisfiable or too many.
pub(super) fn send(
    request: &DemoRequest,
    original: &OriginalContent,
    name: &str,
    modified: jiff::Timestamp,
) -> Option<DemoReply> {
    let size = original.size();
    let date = http_date(modified);
    let millis = modified.as_second() * 1000;
    let tag = format!("\"{:x}\"", millis.cast_unsigned() ^ size.reverse_bits());
    let required = request.header(IF_MATCH);
    let mut reply = if required.is_some_and(|tags| !matches(tags, &tag)) {
        text(
            StatusCode::PRECONDITION_FAILED,
            "The precondition given in one or more of the request-header fields evaluated to \
            false when it was tested on the server.",
        )
    } else if is_unchanged(request, &tag, &date) {
        let mut reply = DemoReply::new(Body::empty());
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let wanted = request
            .header(RANGE)
            .and_then(|header| ranges(header, size));
        match wanted.filter(|_| range_applies(request, &tag, &date)) {
            None => whole(original, name),
            Some(ranges) => match coalesced(ranges) {
                ranges if ranges.is_empty() || ranges.len() > MOST_RANGES => return None,
                ranges => parts(original, name, ranges),
            },
        }
    };
    append_header(&mut reply, ETAG, &tag);
    append_header(&mut reply, LAST_MODIFIED, &date);
    Some(reply)
}

/// Akka HTTP's defaults: it refuses more ranges than this, and merges ranges
/// that are closer than this.
const MOST_RANGES: usize = 16;
const CLOSE: u64 = 80;

fn whole(original: &OriginalContent, name: &str) -> DemoReply {
    let size = original.size();
    let (content_type, encoding) = content_type(name);
    let body = pieces(original.pieces(0..size).map(Ok));
    let mut reply = reply(StatusCode::OK, content_type, body);
    append_header(&mut reply, CONTENT_LENGTH, &size.to_string());
    append_header(&mut reply, ACCEPT_RANGES, "bytes");
    if let Some(encoding) = encoding {
        append_header(&mut reply, CONTENT_ENCODING, encoding);
    }
    reply
}

/// Returns one range as it is, several as a multipart body.
fn parts(original: &OriginalContent, name: &str, ranges: Vec<Range<u64>>) -> DemoReply {
    const BOUNDARY: &str = "icosfs-demo-byteranges";
    let size = original.size();
    let content_range =
        |range: &Range<u64>| format!("bytes {}-{}/{size}", range.start, range.end - 1);
    let mut reply = whole(original, name);
    *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
    if let [range] = &ranges[..] {
        append_header(&mut reply, CONTENT_RANGE, &content_range(range));
        *reply.body_mut() = pieces(original.pieces(range.clone()).map(Ok));
        let length = HeaderValue::from(range.end - range.start);
        reply.headers_mut().insert(CONTENT_LENGTH, length);
        return reply;
    }
    let (content_type, _) = content_type(name);
    let end = Bytes::from(format!("\r\n--{BOUNDARY}--"));
    let mut length = end.len() as u64;
    let mut parts = Vec::new();
    for range in ranges {
        let head = Bytes::from(format!(
            "\r\n--{BOUNDARY}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
            content_range(&range)
        ));
        length += head.len() as u64 + (range.end - range.start);
        parts.push(std::iter::once(head).chain(original.pieces(range)));
    }
    let all = parts.into_iter().flatten().chain([end]);
    *reply.body_mut() = pieces(all.map(Ok));
    let multipart = format!("multipart/byteranges; boundary={BOUNDARY}");
    let headers = reply.headers_mut();
    headers.insert(CONTENT_LENGTH, length.into());
    headers.remove(CONTENT_TYPE);
    append_header(&mut reply, CONTENT_TYPE, &multipart);
    reply
}

/// Merges ranges that are close together and in order.
fn coalesced(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if (last.start..=last.end + CLOSE).contains(&range.start) => {
                last.end = last.end.max(range.end);
            }
            _ => all.push(range),
        }
    }
    all
}

/// Adds the name under which to save the file.
pub(super) fn attachment(reply: &mut DemoReply, name: &str) {
    let printable = |c: char| c.is_ascii() && !c.is_control();
    let ascii = name.replace(|c| !printable(c), "?");
    let quoted = ascii.replace('\\', "\\\\").replace('"', "\\\"");
    let mut disposition = format!("attachment; filename=\"{quoted}\"");
    if quoted != name {
        let encoded =
            percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        write!(disposition, "; filename*=UTF-8''{encoded}").expect("a string takes any text");
    }
    append_header(reply, CONTENT_DISPOSITION, &disposition);
}

fn is_unchanged(request: &DemoRequest, tag: &str, date: &str) -> bool {
    match request.header(IF_NONE_MATCH) {
        Some(tags) => matches(tags, tag),
        None => request.header(IF_MODIFIED_SINCE) == Some(date),
    }
}

/// Whether a list of tags contains `tag`.
fn matches(tags: &str, tag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags == "*" || tags.split(',').any(|t| bare(t) == tag)
}

/// Whether the condition of `If-Range`, if any, holds.
fn range_applies(request: &DemoRequest, tag: &str, date: &str) -> bool {
    request
        .header(IF_RANGE)
        .is_none_or(|condition| condition == tag || condition == date)
}

/// Returns the satisfiable ranges of a header. `None` if it is malformed, in
/// which case Akka ignores it.
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

/// The content type and content encoding by a file's name.
pub(super) fn content_type(name: &str) -> (&'static str, Option<&'static str>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_headers_are_parsed_as_by_akka() {
        for (header, expected) in [
            ("bytes=0-9", "0..10"),
            ("bytes=90-", "90..100"),
            ("bytes=-10", "90..100"),
            ("bytes=-1000", "0..100"),
            ("bytes=50-1000", "50..100"),
            ("bytes=0-0, 99-99", "0..1, 99..100"),
            ("bytes=100-", ""),
            ("bytes=-0", ""),
            ("bytes=9-1", "malformed"),
            ("bytes=-", "malformed"),
            ("bytes=a-b", "malformed"),
            ("lines=0-9", "malformed"),
        ] {
            let found = ranges(header, 100).map_or("malformed".to_owned(), |ranges| {
                let texts: Vec<_> = ranges.iter().map(|range| format!("{range:?}")).collect();
                texts.join(", ")
            });
            assert_eq!(found, expected, "{header}");
        }
    }

    #[test]
    fn content_type_of_gzipped_text_is_text_with_encoding() {
        assert_eq!(
            content_type("flux.CSV.gz"),
            ("text/csv; charset=UTF-8", Some("gzip"))
        );
        assert_eq!(content_type("a.nc"), ("application/octet-stream", None));
    }
}
