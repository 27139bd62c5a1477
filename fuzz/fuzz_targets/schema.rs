//! Untrusted dataset descriptions, column names and CSV headers.

#![no_main]

use icos_table::dataset::{Presence, Title};
use icos_table::schema::Column;
use icos_table::{CsvWriter, Dataset, DatasetColumn, Layout, Schema, ValueFormat};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    definitions: Vec<Definition>,
    actual: Option<Vec<String>>,
    rows: u64,
    header: Option<Vec<u8>>,
}

#[derive(Arbitrary, Debug)]
struct Definition {
    title: String,
    format: String,
    number: u8,
    is_pattern: bool,
    is_optional: bool,
}

fuzz_target!(|input: Input| {
    let definitions = input.definitions.into_iter().map(|definition| {
        let known = ValueFormat::ALL[usize::from(definition.number) % ValueFormat::ALL.len()];
        let format = ValueFormat::from_iri(&definition.format).unwrap_or(known);
        DatasetColumn {
            column: Column::new(definition.title, format),
            title: if definition.is_pattern { Title::Pattern } else { Title::Verbatim },
            presence: if definition.is_optional { Presence::Optional } else { Presence::Mandatory },
        }
    });
    let dataset = Dataset::new(definitions.collect());
    let columns = match &input.actual {
        Some(actual) => {
            let _ = dataset.disagreements(actual);
            dataset.ingested(actual)
        }
        None => dataset.mandatory(),
    };
    let Ok(schema) = columns.and_then(|columns| Schema::new(input.rows, columns)) else {
        return;
    };
    let header = CsvWriter::new(schema.columns()).header().to_vec();
    check(&schema);
    if let Ok(ordered) = schema.ordered_by_header(&header) {
        assert_eq!(ordered, schema);
    }
    if let Some(header) = input.header
        && let Ok(ordered) = schema.ordered_by_header(&header)
    {
        check(&ordered);
        let written = CsvWriter::new(ordered.columns());
        let line = header.strip_suffix(b"\n").unwrap_or(&header);
        assert_eq!(written.header().strip_suffix(b"\n"), Some(line));
    }
});

/// Both column orders contain the same columns, and the sizes agree.
fn check(schema: &Schema) {
    let stored: Vec<&Column> = schema.stored().collect();
    assert_eq!(stored.len(), schema.columns().len());
    for (csv, column) in schema.columns().iter().enumerate() {
        let at = schema.stored_index(csv).expect("every column is stored");
        assert_eq!(
            (&stored[at].label, stored[at].format),
            (&column.label, column.format)
        );
    }
    assert_eq!(Layout::new(schema).file_len(), schema.stored_len() + 10);
}
