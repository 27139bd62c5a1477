//! Pages for people: plain HTML that works without scripts.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::reply::{self, Reply};
use super::router::RequestPath;

/// The style of all pages.
const STYLE: &str = include_str!("style.css");
/// Its path. No file of the tree has it.
const STYLE_PATH: &str = "/.icosfs/style.css";

/// All characters but those that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Encodes one component of a path for a URL.
pub(super) fn encode_component(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Escapes text for HTML, XML and their attributes in double quotes. Characters that XML
/// does not allow are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1 << 10 {
        return format!("{bytes}\u{a0}B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let (whole, part) = (tenths / 10, tenths % 10);
    if whole < 10 {
        format!("{whole}.{part}\u{a0}{}", UNITS[unit])
    } else {
        format!("{whole}\u{a0}{}", UNITS[unit])
    }
}

/// The way from the root to a page: names, and their links. The last is the page itself.
pub(super) struct Crumbs(Vec<(String, String)>);

impl Crumbs {
    /// The way to a page called `name`, which is reached from a folder.
    pub(super) fn to(folder: &str, link: &str, name: &str) -> Self {
        let folder = (folder.to_owned(), link.to_owned());
        Self(vec![folder, (name.to_owned(), String::new())])
    }

    /// The way to the folder at `path`.
    pub(super) fn of(path: &RequestPath) -> Self {
        let mut link = String::from("/");
        let mut crumbs = Vec::new();
        for component in &path.components {
            let _ = write!(link, "{}/", encode_component(component));
            crumbs.push((component.clone(), link.clone()));
        }
        Self(crumbs)
    }
}

/// A complete page. Without a heading, it has the name of its folder.
pub(super) fn page(crumbs: &Crumbs, heading: Option<&str>, repository: &str, body: &str) -> String {
    let repository = escape(repository);
    let (title, heading) = match heading.or(crumbs.0.last().map(|(name, _)| name.as_str())) {
        Some(heading) => (format!("{} - ", escape(heading)), escape(heading)),
        None => (String::new(), repository.clone()),
    };
    let mut way = format!("<li><a href=\"/\">{repository}</a></li>");
    if let Some(((current, _), above)) = crumbs.0.split_last() {
        for (name, link) in above {
            let _ = write!(way, "<li><a href=\"{link}\">{}</a></li>", escape(name));
        }
        let _ = write!(
            way,
            "<li><span aria-current=\"page\">{}</span></li>",
            escape(current)
        );
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}{repository} - icosfs</title>\n\
         <link rel=\"stylesheet\" href=\"{STYLE_PATH}\">\n</head>\n<body>\n\
         <header><nav aria-label=\"Folders\"><ol>{way}</ol></nav></header>\n\
         <main>\n<h1>{heading}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// The reply with a page or file that is part of the program, if `path` is one.
pub(super) fn built_in(path: &str) -> Option<Reply> {
    if path != STYLE_PATH {
        return None;
    }
    let mut reply = reply::with_bytes(StatusCode::OK, "text/css; charset=utf-8", STYLE);
    let age = HeaderValue::from_static("private, max-age=3600");
    reply.headers_mut().insert(CACHE_CONTROL, age);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_shown_with_two_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 << 20, "10 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes).replace('\u{a0}', " "), shown);
        }
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_markup(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"']));
            let unescaped = escaped.replace("&lt;", "<").replace("&gt;", ">")
                .replace("&quot;", "\"").replace("&amp;", "&");
            let allowed = |c: char| c >= ' ' || matches!(c, '\t' | '\n' | '\r');
            prop_assume!(text.chars().all(allowed) && !text.contains(['\u{fffe}', '\u{ffff}']));
            prop_assert_eq!(unescaped, text);
        }
    }
}
