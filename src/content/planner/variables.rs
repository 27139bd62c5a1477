//! Decides which variables of a NetCDF file, and which of their rows, one request
//! fetches.
//!
//! A reader of one variable gets that variable and nothing else. Programs that copy the
//! complete file read one variable after another: for them each request takes four times
//! as many variables as the one before.

use std::ops::Range;

/// A variable with at most this many bytes is requested at once.
const WHOLE_VARIABLE: u64 = 8 << 20;
/// The bytes of the first request for a longer variable.
const FIRST_WINDOW: u64 = 1 << 20;
/// Each further one is this many times larger.
const GROWTH: u64 = 8;
/// A reader of this many variables in their order reads them all.
const SEQUENTIAL: u32 = 2;
/// Each request of such a reader has this many times as many variables as the one before.
const MORE_VARIABLES: usize = 4;
/// How far the kernel reads ahead, in bytes: two windows.
const READ_AHEAD: u64 = 2 << 20;
/// After this many requests of one file, one takes all that is missing: each counts as a
/// download.
const MAX_REQUESTS: u32 = 16;

/// Rows of variables that follow each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::content) struct VariableRequest {
    pub(in crate::content) variables: Range<usize>,
    pub(in crate::content) rows: Range<u64>,
}

/// What was requested of a file before.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::content) struct VariableHistory {
    requests: u32,
    /// The variable after those that were requested last.
    next: usize,
    /// How many requests followed each other in the order of the file.
    run: u32,
}

impl VariableHistory {
    /// Whether the reader takes one variable after another.
    pub(in crate::content) fn is_sequential(&self) -> bool {
        self.run >= SEQUENTIAL
    }

    /// What to request for a read that misses `rows` of each of these variables, in the
    /// order of the file, and touches `touched` variables in all. The variables have
    /// `widths` bytes in each of `all_rows` rows; the cache retains `capacity` bytes.
    pub(in crate::content) fn plan(
        &mut self,
        missing: &[(usize, Range<u64>)],
        touched: usize,
        widths: &[u64],
        all_rows: u64,
        capacity: u64,
    ) -> Vec<VariableRequest> {
        let len = |variables: Range<usize>| -> u64 {
            let width: u64 = widths[variables].iter().sum();
            width.saturating_mul(all_rows)
        };
        let (Some((first, rows)), Some((last, _))) = (missing.first(), missing.last()) else {
            return Vec::new();
        };
        self.requests += 1;
        let everything = 0..widths.len();
        if self.requests > MAX_REQUESTS && len(everything.clone()) <= capacity {
            return vec![VariableRequest {
                variables: everything,
                rows: 0..all_rows,
            }];
        }
        // A read of parts of several variables is hardly one of all their rows: their
        // ends and beginnings lie side by side in the file.
        let is_part = |(_, rows): &(usize, Range<u64>)| (rows.end - rows.start) * 4 < all_rows;
        if touched > 1 && missing.iter().any(is_part) {
            let requests = missing.iter().map(|(variable, rows)| VariableRequest {
                variables: *variable..variable + 1,
                rows: rows.clone(),
            });
            return requests.collect();
        }
        // Reads of one program's readahead arrive in any order: a sequential reader may
        // be seen a little ahead of where it is.
        let is_ahead = |next: usize| next < *first && len(next..*first) <= READ_AHEAD;
        let follows = self.requests > 1
            && (*first == self.next || (self.is_sequential() && is_ahead(self.next)));
        let begin = if follows { self.next } else { *first };
        self.run = if follows { self.run + 1 } else { 0 };
        let mut end = last + 1;
        if self.is_sequential() {
            let exponent = self.run - SEQUENTIAL + 1;
            let more = MORE_VARIABLES.saturating_pow(exponent);
            end = begin.saturating_add(more).clamp(end, widths.len());
        }
        while end > last + 1 && len(begin..end) > capacity {
            end -= 1;
        }
        self.next = end;
        let variables = begin..end;
        if missing.len() > 1
            || end > first + 1
            || len(*first..first + 1) <= WHOLE_VARIABLE.min(capacity)
        {
            let rows = if len(variables.clone()) <= capacity {
                0..all_rows
            } else {
                rows.clone()
            };
            return vec![VariableRequest { variables, rows }];
        }
        // Each request for a part of a long variable counts as one.
        let window = FIRST_WINDOW.saturating_mul(GROWTH.saturating_pow(self.requests - 1));
        let window = window.min(capacity) / widths[*first].max(1);
        let end = rows.start.saturating_add(window).clamp(rows.end, all_rows);
        vec![VariableRequest {
            variables: *first..first + 1,
            rows: rows.start..end,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 1 << 40;

    fn request(variables: Range<usize>, rows: Range<u64>) -> VariableRequest {
        VariableRequest { variables, rows }
    }

    #[test]
    fn read_of_one_variable_requests_all_its_rows_and_no_other() {
        let widths = [8, 4, 4, 4];
        let mut history = VariableHistory::default();
        let plan = history.plan(&[(2, 10..20)], 1, &widths, 350_000, CAPACITY);
        assert_eq!(plan, [request(2..3, 0..350_000)]);
        let plan = history.plan(&[(0, 0..1)], 1, &widths, 350_000, CAPACITY);
        assert_eq!(plan, [request(0..1, 0..350_000)]);
    }

    #[test]
    fn read_across_the_end_of_a_variable_requests_the_rows_that_it_reads() {
        let mut history = VariableHistory::default();
        let missing = [(1, 99_000..100_000), (2, 0..1000)];
        let plan = history.plan(&missing, 2, &[4; 4], 100_000, CAPACITY);
        assert_eq!(
            plan,
            [request(1..2, 99_000..100_000), request(2..3, 0..1000)]
        );
        // Only the second is missing.
        let plan = history.plan(&missing[1..], 2, &[4; 4], 100_000, CAPACITY);
        assert_eq!(plan, [request(2..3, 0..1000)]);
    }

    #[test]
    fn read_of_several_complete_variables_is_one_request() {
        let mut history = VariableHistory::default();
        let missing = [(1, 50..100), (2, 0..100), (3, 0..30)];
        let plan = history.plan(&missing, 3, &[4; 9], 100, CAPACITY);
        assert_eq!(plan, [request(1..4, 0..100)]);
    }

    #[test]
    fn copy_of_a_wide_file_takes_few_requests() {
        let (widths, rows) = ([4; 260], 350_000);
        let (mut history, mut at, mut requests) = (VariableHistory::default(), 0, 0);
        while at < widths.len() {
            let plan = history.plan(&[(at, 0..1000)], 1, &widths, rows, CAPACITY);
            assert_eq!(plan[0].variables.start, at);
            assert_eq!(plan[0].rows, 0..rows);
            at = plan[0].variables.end;
            requests += 1;
        }
        assert!(requests <= 7, "{requests}");
    }

    /// Regression: a read that arrived before an earlier one made the next requests short.
    #[test]
    fn sequential_reader_may_be_seen_out_of_order() {
        let (widths, rows) = ([4; 260], 30_000);
        let mut history = VariableHistory::default();
        for at in [0, 1, 2] {
            history.plan(&[(at, 0..1000)], 1, &widths, rows, CAPACITY);
        }
        assert_eq!(history.next, 6);
        let plan = history.plan(&[(8, 0..1000)], 1, &widths, rows, CAPACITY);
        assert_eq!(plan, [request(6..22, 0..rows)]);
        let far = history.plan(&[(200, 0..1000)], 1, &widths, rows, CAPACITY);
        assert_eq!(far, [request(200..201, 0..rows)]);
    }

    #[test]
    fn long_variable_is_requested_in_growing_parts() {
        let rows = 1 << 30;
        let mut history = VariableHistory::default();
        let (mut at, mut requests) = (0, 0);
        while at < rows {
            let plan = history.plan(&[(0, at..at + 100)], 1, &[8], rows, CAPACITY);
            assert_eq!(plan[0].rows.start, at);
            at = plan[0].rows.end;
            requests += 1;
        }
        assert!(requests <= 6, "{requests}");
    }

    #[test]
    fn requests_fit_into_the_cache() {
        let (widths, rows) = ([4; 50], 100_000);
        let capacity = 1 << 20;
        let mut history = VariableHistory::default();
        for at in 0..40 {
            for plan in history.plan(&[(at, 0..1000)], 1, &widths, rows, capacity) {
                let variables = plan.variables.len() as u64;
                assert!(variables * 4 * (plan.rows.end - plan.rows.start) <= capacity);
                assert!(plan.variables.contains(&at) && plan.rows.end >= 1000);
            }
        }
    }

    #[test]
    fn many_scattered_reads_lead_to_one_request_of_the_rest() {
        let mut history = VariableHistory::default();
        let plans =
            (0..40).map(|n| history.plan(&[(n * 2, 0..10)], 1, &[4; 90], 100_000, CAPACITY));
        let whole: Vec<usize> = (plans.enumerate())
            .filter(|(_, plan)| plan[0].variables == (0..90))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(whole.first(), Some(&16));
    }
}
