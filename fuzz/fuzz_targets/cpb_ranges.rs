//! Conversions between byte ranges of `.cpb` files and rows of columns.

#![no_main]

use std::ops::Range;

use icos_table::schema::Column;
use icos_table::{FilePart, Layout, RowIndex, Schema, ValueFormat};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    rows: u64,
    formats: Vec<u8>,
    bytes: Range<u64>,
    column: usize,
    column_rows: Range<u64>,
    index: Vec<u8>,
}

fuzz_target!(|input: Input| {
    let columns = input.formats.iter().enumerate().map(|(at, &format)| {
        let format = ValueFormat::ALL[usize::from(format) % ValueFormat::ALL.len()];
        Column::new(at.to_string(), format)
    });
    if let Ok(schema) = Schema::new(input.rows, columns.collect()) {
        let layout = Layout::new(&schema);
        covers(&layout, input.bytes.clone());
        if let Ok(range) = layout.column_range(input.column, input.column_rows.clone()) {
            assert!(range.end <= schema.stored_len());
            let rows = input.column_rows.end - input.column_rows.start;
            let width = layout.width(input.column).expect("a range was found for it");
            assert_eq!(range.end - range.start, rows * width);
            covers(&layout, range);
        }
    }
    if let Ok(index) = RowIndex::from_bytes(&input.index)
        && let Some(span) = index.locate(input.bytes)
    {
        assert!(span.rows.end <= index.rows() && span.bytes.end <= index.text_len());
    }
});

/// Parts follow each other, and are of the range and little else.
fn covers(layout: &Layout, bytes: Range<u64>) {
    let end = bytes.end.min(layout.file_len());
    let mut at = None;
    // A wide range has as many parts as there are columns.
    for part in layout.cover(bytes.clone()) {
        let lies = part.bytes();
        assert!(lies.start < bytes.end && bytes.start < lies.end);
        match at {
            None => assert!(lies.start <= bytes.start && bytes.start - lies.start < 8),
            Some(at) => assert_eq!(at, lies.start),
        }
        at = Some(lies.end);
        match part {
            FilePart::Cells(cells) => {
                let range = layout.column_range(cells.column, cells.rows);
                assert_eq!(range, Ok(cells.bytes));
            }
            FilePart::Trailer { bytes } => assert!(!layout.trailer(bytes).is_empty()),
        }
    }
    match at {
        None => assert!(bytes.start >= end),
        Some(at) => assert!(end <= at && at - end < 8),
    }
}
