//! The header `Range`: RFC 9110, section 14.

use std::ops::Range;

/// The greatest number of ranges in one request. Clients send a few; many small ones
/// would cost the server more than the client.
const MAX_RANGES: usize = 32;

/// The part of a file that a request asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RequestedRange {
    /// All of it: the header is missing, or is none that this server knows.
    Whole,
    /// These ranges, half-open, none of them empty, in the order of the request.
    Parts(Vec<Range<u64>>),
    /// None of the ranges lies in the file, or there are too many.
    Unsatisfiable,
}

/// One range of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RangeSpec {
    /// First and last byte, inclusive; without a last one, to the end.
    From(u64, Option<u64>),
    /// The last bytes, this many.
    Suffix(u64),
}

impl RequestedRange {
    /// Resolves the value of the header for a file of `len` bytes.
    pub(super) fn of(header: &str, len: u64) -> Self {
        let Some(specs) = parse(header) else {
            return Self::Whole;
        };
        if specs.len() > MAX_RANGES {
            return Self::Unsatisfiable;
        }
        let parts: Vec<Range<u64>> = specs.iter().filter_map(|spec| spec.within(len)).collect();
        if parts.is_empty() {
            return Self::Unsatisfiable;
        }
        // Overlapping ranges must not multiply what is sent.
        let sum = parts.iter().map(|part| part.end - part.start);
        if sum.fold(0_u64, u64::saturating_add) > len {
            return Self::Whole;
        }
        Self::Parts(parts)
    }

    /// Whether `header` is a range that this server knows.
    pub(super) fn is_known(header: &str) -> bool {
        parse(header).is_some()
    }
}

impl RangeSpec {
    fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => {
                first..last.map_or(len, |last| last.saturating_add(1).min(len))
            }
            Self::Suffix(count) => len.saturating_sub(count)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Parses `bytes=0-9,20-,-5`. `None` for other units and invalid ranges, which a server
/// ignores.
fn parse(header: &str) -> Option<Vec<RangeSpec>> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs: Option<Vec<RangeSpec>> = (set.split(','))
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
        // One more than allowed is enough to refuse it.
        .take(MAX_RANGES + 1)
        .map(|spec| match spec.split_once('-')? {
            ("", count) => Some(RangeSpec::Suffix(number(count)?)),
            (first, "") => Some(RangeSpec::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(RangeSpec::From(first, Some(last)))
            }
        })
        .collect();
    specs.filter(|specs| !specs.is_empty())
}

/// A number of any length; one that is greater than any file stands for the greatest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The ranges from the first to the second number of each pair.
    fn parts(ranges: &[(u64, u64)]) -> RequestedRange {
        RequestedRange::Parts(ranges.iter().map(|&(from, to)| from..to).collect())
    }

    #[test]
    fn ranges_are_resolved_for_the_length() {
        for (header, expected) in [
            ("bytes=0-9", parts(&[(0, 10)])),
            ("bytes=90-", parts(&[(90, 100)])),
            ("bytes=-5", parts(&[(95, 100)])),
            ("bytes=-500", parts(&[(0, 100)])),
            ("bytes=90-500", parts(&[(90, 100)])),
            ("bytes=0-99999999999999999999999", parts(&[(0, 100)])),
            ("Bytes = 0-1 , 5-6", parts(&[(0, 2), (5, 7)])),
            ("bytes=5-6,,0-1", parts(&[(5, 7), (0, 2)])),
            ("bytes=0-1,200-300", parts(&[(0, 2)])),
            ("bytes=100-", RequestedRange::Unsatisfiable),
            ("bytes=-0", RequestedRange::Unsatisfiable),
            // Ignored, as the RFC demands.
            ("rows=0-9", RequestedRange::Whole),
            ("bytes=9-0", RequestedRange::Whole),
            ("bytes=", RequestedRange::Whole),
            ("bytes=a-b", RequestedRange::Whole),
            ("bytes=0-9,x", RequestedRange::Whole),
            ("bytes=+1-2", RequestedRange::Whole),
            ("", RequestedRange::Whole),
        ] {
            assert_eq!(RequestedRange::of(header, 100), expected, "{header}");
        }
    }

    #[test]
    fn many_or_overlapping_ranges_cost_no_more_than_the_file() {
        let many = (0..40).map(|n| format!("{n}-{n}")).collect::<Vec<_>>();
        let header = format!("bytes={}", many.join(","));
        assert_eq!(
            RequestedRange::of(&header, 100),
            RequestedRange::Unsatisfiable
        );
        let overlapping = RequestedRange::of("bytes=0-,0-", 100);
        assert_eq!(overlapping, RequestedRange::Whole);
    }

    proptest! {
        #[test]
        fn any_header_selects_bytes_of_the_file(header in "(bytes=)?[0-9, x=-]{0,40}", len in 0_u64..1000) {
            if let RequestedRange::Parts(parts) = RequestedRange::of(&header, len) {
                prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
                prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= len);
                prop_assert!(RequestedRange::is_known(&header));
            }
        }

        #[test]
        fn a_range_is_what_it_says(first in 0_u64..100, last in 0_u64..200, len in 1_u64..150) {
            let expected: Vec<u64> = (0..len).filter(|at| (first..=last).contains(at)).collect();
            let found = match RequestedRange::of(&format!("bytes={first}-{last}"), len) {
                RequestedRange::Parts(parts) => parts.into_iter().flatten().collect(),
                RequestedRange::Unsatisfiable => Vec::new(),
                RequestedRange::Whole => {
                    prop_assert!(first > last);
                    return Ok(());
                }
            };
            prop_assert_eq!(found, expected);
        }
    }
}
