//! Times the CSV writer on one core, for `scripts/bench csv_writing`.
//!
//! Usage: `csv_speed COLUMNS ROWS REPEATS FORMAT...`
//!
//! COLUMNS is a file of contiguous big-endian columns, one per FORMAT (e.g.
//! `float32`), each of ROWS values. The program renders all rows REPEATS times,
//! window by window into the same buffer, and prints the best time in seconds and
//! the size of the text in bytes.

#![allow(
    clippy::disallowed_macros,
    reason = "an example may end if nothing reads its output"
)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use icos_table::schema::Column;
use icos_table::{CsvWriter, ValueFormat};

/// Rows of a window, as a stream of a table renders them.
const WINDOW: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("expected COLUMNS ROWS REPEATS FORMAT...");
    let bytes = std::fs::read(next()?)?;
    let rows: usize = next()?.parse()?;
    let repeats: usize = next()?.parse()?;
    let columns: Vec<Column> = args
        .map(|format| Ok(Column::new(format.clone(), ValueFormat::from_iri(&format)?)))
        .collect::<Result<_, Box<dyn Error>>>()?;

    let mut rest = bytes.as_slice();
    let mut data = Vec::new();
    for column in &columns {
        let (column, later) = rest
            .split_at_checked(rows * column.format.width())
            .ok_or("the file is too short for its columns")?;
        data.push(column);
        rest = later;
    }

    let writer = CsvWriter::new(&columns);
    let mut text = Vec::new();
    let mut best = f64::INFINITY;
    let mut size = 0;
    for _ in 0..repeats {
        let start = Instant::now();
        size = writer.header().len();
        for from in (0..rows).step_by(WINDOW) {
            let to = rows.min(from + WINDOW);
            let window: Vec<&[u8]> = columns
                .iter()
                .zip(&data)
                .map(|(c, bytes)| &bytes[from * c.format.width()..to * c.format.width()])
                .collect();
            text.clear();
            writer.render(to - from, &window, &mut text)?;
            size += black_box(&text).len();
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{best} {size}");
    Ok(())
}
