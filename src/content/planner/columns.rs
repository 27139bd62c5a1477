//! Decides which rows and columns of a table one request fetches.
//!
//! Rendering needs rows of all columns; a reader of the `.cpb` file needs bytes
//! of one column. Each request counts as a download, so requests for rows grow
//! by [`GROWTH`] each time, and request number [`MAX_REQUESTS`] takes all that
//! is left.

use std::ops::Range;

/// This request takes what is left, and so does each one after it.
pub(in crate::content) const MAX_REQUESTS: u32 = 5;
/// How far the response runs ahead of a reader of the `.cpb` file. A read that
/// begins at most this far after the end of the last one is sequential.
pub(in crate::content) const COLUMNS_AHEAD: u64 = 4 << 20;

/// The least number of bytes in the first request for rows, enough for a `head`;
/// up to [`GROWTH`] times as many for a reader that reads more at once.
const FIRST_WINDOW: u64 = 256 << 10;
/// Each further request is this many times larger.
const GROWTH: u64 = 8;
/// A response up to this length is fetched to its end without a pause. For a
/// reader of the `.cpb` file, a table up to this length is requested at once.
const COLUMNS_SHORT: u64 = 4 << 20;
/// A first read this close to the start is taken for a sequential one: the
/// kernel's readahead arrives out of order.
const COLUMNS_NEAR_START: u64 = 512 << 10;

/// What a request for bytes of the `.cpb` file fetches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::content) enum ColumnScope {
    /// All that is missing of this column and those after it.
    From(usize),
    /// The rest of the column that is read, or this column and as many complete ones
    /// after it as the cache retains.
    Following,
    /// The missing rows of the one column that is read.
    One,
}

/// The rows to request of all columns, from the start of `missing` on.
/// `requests` were sent before, a row takes `row_width` bytes, and the reader
/// takes `read_len` bytes at once: few for a `head`, more for a complete read.
pub(in crate::content) fn rows_to_request(
    missing: &Range<u64>,
    requests: u32,
    row_width: u64,
    read_len: u64,
) -> Range<u64> {
    let left = missing.end - missing.start;
    let length = if requests + 1 >= MAX_REQUESTS {
        left
    } else {
        let first = (read_len.saturating_mul(GROWTH)).clamp(FIRST_WINDOW, FIRST_WINDOW * GROWTH);
        let window = first.saturating_mul(GROWTH.saturating_pow(requests));
        (window / row_width).max(1).min(left)
    };
    missing.start..missing.start + length
}

/// The columns to request for a reader that misses byte `at` of the `.cpb`
/// file, which belongs to `column`: for a sequential reader, or of a short
/// table, all that follows as well. The columns take `stored_len` bytes, of which the
/// cache retains `capacity`, and the last read ended at `last_end`.
pub(in crate::content) fn columns_to_request(
    at: u64,
    column: usize,
    requests: u32,
    stored_len: u64,
    capacity: u64,
    last_end: u64,
) -> ColumnScope {
    let takes_rest = requests + 1 >= MAX_REQUESTS;
    let from_start = last_end == 0 && at <= COLUMNS_NEAR_START;
    let follows = |distance: u64| {
        last_end > 0 && (last_end..=last_end.saturating_add(distance)).contains(&at)
    };
    if stored_len > capacity {
        // Rows of all columns would be lost before they are read.
        if from_start || follows(COLUMNS_NEAR_START) {
            ColumnScope::Following
        } else {
            ColumnScope::One
        }
    } else if takes_rest || from_start || stored_len <= COLUMNS_SHORT {
        ColumnScope::From(0)
    } else if follows(COLUMNS_AHEAD) {
        ColumnScope::From(column)
    } else {
        ColumnScope::One
    }
}

/// The part of `rows` that the cache retains until it is read: a table larger
/// than the cache passes through it in several requests. `row_width` counts the
/// requested columns only.
pub(in crate::content) fn rows_that_fit(
    rows: &Range<u64>,
    row_width: u64,
    capacity: u64,
) -> Range<u64> {
    let fits = (capacity / row_width.max(1)).max(1);
    rows.start..rows.start + (rows.end - rows.start).min(fits)
}

/// Whether a response of `len` bytes pauses when its readers are far behind. A
/// request that takes the rest does not: a reader that pauses again and again
/// costs no further request.
pub(in crate::content) fn may_pause(len: u64, reaches_last_row: bool, requests: u32) -> bool {
    let takes_rest = reaches_last_row && requests + 1 >= MAX_REQUESTS;
    len > COLUMNS_SHORT && !takes_rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn rows_to_request_grows_with_each_request() {
        // (case, missing rows, requests, row width, bytes at once, expected)
        let cases = [
            ("head gets the first window", 0..1 << 20, 0, 64, 0, 0..4096),
            (
                "a small read changes nothing",
                0..1 << 20,
                0,
                64,
                32 << 10,
                0..4096,
            ),
            (
                "a large read gets eight times as much",
                0..1 << 20,
                0,
                64,
                256 << 10,
                0..32_768,
            ),
            (
                "a huge read gets no more",
                0..1 << 20,
                0,
                64,
                1 << 40,
                0..32_768,
            ),
            (
                "the second request is eight times larger",
                4096..1 << 20,
                1,
                64,
                0,
                4096..36_864,
            ),
            ("the third again", 0..1 << 30, 2, 64, 0, 0..262_144),
            ("the fourth again", 0..1 << 30, 3, 64, 0, 0..2_097_152),
            ("the fifth takes the rest", 9..1 << 30, 4, 64, 0, 9..1 << 30),
            (
                "and so does each later one",
                9..1 << 30,
                40,
                64,
                0,
                9..1 << 30,
            ),
            ("a short gap ends the request", 10..20, 0, 64, 0, 10..20),
            ("at least one row", 0..9, 0, 1 << 30, 0, 0..1),
        ];
        for (case, missing, requests, row_width, read_len, expected) in cases {
            let rows = rows_to_request(&missing, requests, row_width, read_len);
            assert_eq!(rows, expected, "{case}");
        }
    }

    #[test]
    fn columns_to_request_depends_on_the_pattern_of_reads() {
        use ColumnScope::{Following, From, One};
        // (case, byte, its column, requests, bytes of all columns, end of the last read, expected)
        let cases = [
            ("first read at the start", 0, 0, 0, 100 * MIB, 0, From(0)),
            (
                "first read near the start",
                512 << 10,
                0,
                0,
                100 * MIB,
                0,
                From(0),
            ),
            (
                "first read elsewhere",
                (512 << 10) + 1,
                0,
                0,
                100 * MIB,
                0,
                One,
            ),
            (
                "first read of a short table",
                3 * MIB,
                2,
                0,
                4 * MIB,
                0,
                From(0),
            ),
            (
                "next read continues",
                9 * MIB,
                2,
                1,
                100 * MIB,
                9 * MIB,
                From(2),
            ),
            (
                "next read skips a little",
                13 * MIB,
                2,
                1,
                100 * MIB,
                9 * MIB,
                From(2),
            ),
            (
                "next read skips more",
                13 * MIB + 1,
                2,
                1,
                100 * MIB,
                9 * MIB,
                One,
            ),
            (
                "next read goes back",
                9 * MIB - 1,
                2,
                1,
                100 * MIB,
                9 * MIB,
                One,
            ),
            (
                "the fifth request takes all",
                50 * MIB,
                7,
                4,
                100 * MIB,
                9 * MIB,
                From(0),
            ),
        ];
        for (case, at, column, requests, stored_len, last_end, expected) in cases {
            let scope = columns_to_request(at, column, requests, stored_len, u64::MAX, last_end);
            assert_eq!(scope, expected, "{case}");
        }
        let scope = |at, last_end| columns_to_request(at, 3, 9, 9 * MIB, 8 * MIB, last_end);
        assert_eq!(
            scope(0, 0),
            Following,
            "a table that the cache does not retain"
        );
        assert_eq!(scope(5 * MIB, 5 * MIB - 9), Following);
        assert_eq!(scope(5 * MIB, 4 * MIB), One);
        assert_eq!(scope(5 * MIB, 6 * MIB), One);
    }

    #[test]
    fn rows_that_fit_are_bounded_by_the_cache() {
        let cases = [
            ("all fit", 0..100, 8, 800, 0..100),
            ("some fit", 10..100, 8, 80, 10..20),
            ("at least one row", 10..100, 8, 0, 10..11),
            ("no columns", 10..100, 0, 800, 10..100),
        ];
        for (case, rows, row_width, capacity, expected) in cases {
            assert_eq!(
                rows_that_fit(&rows, row_width, capacity),
                expected,
                "{case}"
            );
        }
    }

    #[test]
    fn may_pause_excepts_short_responses_and_the_last_request() {
        let cases = [
            ("a short response", COLUMNS_SHORT, false, 0, false),
            ("a long response", COLUMNS_SHORT + 1, false, 0, true),
            (
                "an early request to the last row",
                COLUMNS_SHORT + 1,
                true,
                3,
                true,
            ),
            (
                "the request that takes the rest",
                COLUMNS_SHORT + 1,
                true,
                4,
                false,
            ),
            (
                "a late request for some rows",
                COLUMNS_SHORT + 1,
                false,
                4,
                true,
            ),
        ];
        for (case, len, reaches_last_row, requests, expected) in cases {
            assert_eq!(
                may_pause(len, reaches_last_row, requests),
                expected,
                "{case}"
            );
        }
    }
}
