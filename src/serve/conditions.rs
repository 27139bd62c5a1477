//! Conditional requests: RFC 9110, section 13.

use std::time::SystemTime;

use hyper::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE,
};

/// What identifies the bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Validators {
    /// A strong entity tag with its quotes, the same only for the same bytes.
    pub(super) etag: Option<String>,
    /// When the bytes were last changed, if they never change again.
    pub(super) immutable_since: Option<SystemTime>,
}

/// The result of the conditions of a GET or HEAD.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Condition {
    /// To be answered.
    Holds,
    /// The client has the bytes: 304.
    NotModified,
    /// The client has other bytes: 412.
    Fails,
}

impl Validators {
    /// Evaluates the conditions in `headers`, in the order of section 13.2.2.
    pub(super) fn check(&self, headers: &HeaderMap) -> Condition {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let date = |name: &HeaderName| httpdate::parse_http_date(text(name)?).ok();
        let is_newer_than =
            |date: SystemTime| (self.immutable_since).map(|since| seconds(since) > seconds(date));
        if headers.contains_key(IF_MATCH) {
            if !self.is_in(headers, &IF_MATCH, TagComparison::Strong) {
                return Condition::Fails;
            }
        } else if date(&IF_UNMODIFIED_SINCE).and_then(is_newer_than) == Some(true) {
            return Condition::Fails;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            if self.is_in(headers, &IF_NONE_MATCH, TagComparison::Weak) {
                return Condition::NotModified;
            }
        } else if date(&IF_MODIFIED_SINCE).and_then(is_newer_than) == Some(false) {
            return Condition::NotModified;
        }
        Condition::Holds
    }

    /// Whether a `Range` is to be honoured: there is no `If-Range`, or it has this tag or
    /// this date.
    pub(super) fn allow_range(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(IF_RANGE) else {
            return true;
        };
        let Ok(text) = value.to_str() else {
            return false;
        };
        match httpdate::parse_http_date(text) {
            Ok(date) => (self.immutable_since).is_some_and(|since| seconds(since) == seconds(date)),
            Err(_) => self.etag.as_deref() == Some(text.trim()),
        }
    }

    fn is_in(&self, headers: &HeaderMap, name: &HeaderName, comparison: TagComparison) -> bool {
        let Some(own) = &self.etag else {
            // There are bytes, which `*` matches.
            return headers.get(name).is_some_and(|value| value == "*");
        };
        (headers.get_all(name).iter())
            .filter_map(|value| value.to_str().ok())
            // No tag of this server has a comma.
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .any(|tag| {
                let strong = match comparison {
                    TagComparison::Strong => tag,
                    TagComparison::Weak => tag.strip_prefix("W/").unwrap_or(tag),
                };
                tag == "*" || strong == own
            })
    }
}

/// How entity tags are compared.
#[derive(Clone, Copy)]
enum TagComparison {
    /// Weak tags never match.
    Strong,
    /// Weak tags match as well.
    Weak,
}

/// The whole seconds, as a header has them.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SINCE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators() -> Validators {
        let since = httpdate::parse_http_date(SINCE).unwrap();
        Validators {
            etag: Some("\"a\"".to_owned()),
            immutable_since: Some(since + Duration::from_millis(500)),
        }
    }

    fn headers(list: &[(HeaderName, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn conditions_compare_tags_before_dates() {
        for (list, expected) in [
            (vec![], Condition::Holds),
            (vec![(IF_NONE_MATCH, "\"a\"")], Condition::NotModified),
            (
                vec![(IF_NONE_MATCH, "\"b\", W/\"a\"")],
                Condition::NotModified,
            ),
            (vec![(IF_NONE_MATCH, "*")], Condition::NotModified),
            (vec![(IF_NONE_MATCH, "\"b\"")], Condition::Holds),
            // The tag decides.
            (
                vec![(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, AFTER)],
                Condition::Holds,
            ),
            (vec![(IF_MODIFIED_SINCE, BEFORE)], Condition::Holds),
            (vec![(IF_MODIFIED_SINCE, SINCE)], Condition::NotModified),
            (vec![(IF_MODIFIED_SINCE, "yesterday")], Condition::Holds),
            (vec![(IF_MATCH, "\"a\"")], Condition::Holds),
            (vec![(IF_MATCH, "*")], Condition::Holds),
            (vec![(IF_MATCH, "W/\"a\"")], Condition::Fails),
            (vec![(IF_MATCH, "\"b\"")], Condition::Fails),
            (vec![(IF_UNMODIFIED_SINCE, BEFORE)], Condition::Fails),
            (vec![(IF_UNMODIFIED_SINCE, SINCE)], Condition::Holds),
            (
                vec![(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, BEFORE)],
                Condition::Holds,
            ),
        ] {
            assert_eq!(validators().check(&headers(&list)), expected, "{list:?}");
        }
    }

    #[test]
    fn range_is_honoured_only_for_the_same_bytes() {
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", false),
            ("\"b\"", false),
            (SINCE, true),
            (BEFORE, false),
            (AFTER, false),
        ] {
            let found = validators().allow_range(&headers(&[(IF_RANGE, value)]));
            assert_eq!(found, expected, "{value}");
        }
        assert!(validators().allow_range(&headers(&[])));
        assert!(!Validators::default().allow_range(&headers(&[(IF_RANGE, SINCE)])));
    }
}
