//! Contents for benchmarks: large tables and originals, computed as they are
//! read, at the speed of memory.

use bytes::Bytes;
use oxrdf::Triple;
use oxrdfio::{RdfFormat, RdfParser};

use super::content::Original;
use super::item::{ColumnContent, Item, Kind, TableMeta};
use super::repository::Repository;
use super::table::hash;
use super::values::{Format, Values};
use icos_portal::ObjectId;

/// After so many rows a large table's values come again.
const PERIOD: u64 = 4096;

/// Length of a large table's original.
const TABLE_ORIGINAL: u64 = 1 << 20;

const FILE: Kind = Kind::Field {
    spec: "benchmarkFile",
    title: "A file for benchmarks",
    time: ["1970-01-01T00:00:00Z", "1990-01-01T00:00:00Z"],
};

impl Repository {
    /// Adds a table of so many columns and rows, all of four bytes a value
    /// save the times of its first column; returns its id.
    ///
    /// 260 columns of 350 000 rows make a file of 365 MB.
    pub fn add_table(&mut self, name: &str, columns: usize, rows: u64) -> ObjectId {
        let time = ColumnContent {
            name: "TIMESTAMP".into(),
            format: Format::DateTime,
            values: Values::Clock {
                start: 0,
                step: 1_800_000,
            },
        };
        let measured = (1..columns).map(|number| ColumnContent {
            name: format!("V_{number}").into(),
            format: Format::Float32,
            values: Values::Cycle(PERIOD),
        });
        let kind = Kind::Series {
            spec: "benchmarkTable",
            station: "AS_HTM",
            time: ["1970-01-01T00:00:00Z", "1990-01-01T00:00:00Z"],
            height: None,
        };
        let mut item = self.blocks(name, kind, TABLE_ORIGINAL);
        item.table = Some(TableMeta { rows, named: true });
        item.columns = std::iter::once(time).chain(measured).collect();
        self.add(item)
    }

    /// Adds a table of so many rows whose columns' names hold commas, quotes
    /// and a line break; returns its id. If they are not `listed` in its
    /// metadata, only its CSV shows their order.
    pub fn add_hostile_table(&mut self, name: &str, rows: u64, listed: bool) -> ObjectId {
        let column = |name: &'static str, format, values| ColumnContent {
            name: name.into(),
            format,
            values,
        };
        let clock = Values::Clock {
            start: 0,
            step: 1_800_000,
        };
        let kind = Kind::Series {
            spec: "hostileTable",
            station: "AS_HTM",
            time: ["1970-01-01T00:00:00Z", "1990-01-01T00:00:00Z"],
            height: None,
        };
        let mut item = self.blocks(name, kind, TABLE_ORIGINAL);
        item.table = Some(TableMeta {
            rows,
            named: listed,
        });
        item.columns = vec![
            column("TIME,STAMP", Format::DateTime, clock),
            column("say \"x\", 'y'", Format::Float32, Values::Cycle(PERIOD)),
            column("line\nbreak", Format::Float32, Values::Cycle(PERIOD)),
        ];
        self.add(item)
    }

    /// Adds an original of so many bytes, which belongs to no table; returns
    /// its id, which it really hashes to (a GiB takes about a second).
    pub fn add_original(&mut self, name: &str, size: u64) -> ObjectId {
        let item = self.blocks(name, FILE, size);
        self.add(item)
    }

    /// Adds an object of these very bytes, which is no table; returns its id.
    pub fn add_content(&mut self, name: &str, bytes: impl Into<Bytes>) -> ObjectId {
        self.add(Item::new(name, FILE, Original::Bytes(bytes.into())))
    }

    fn blocks(&self, name: &str, kind: Kind, size: u64) -> Item {
        let seed = hash(name) ^ self.seed();
        Item::new(name, kind, Original::Blocks { seed, size })
    }

    fn add(&mut self, item: Item) -> ObjectId {
        let vocabulary = include_str!("bench/vocabulary.ttl");
        let vocabulary = RdfParser::from_format(RdfFormat::Turtle)
            .for_slice(vocabulary)
            .map(|quad| Triple::from(quad.expect("the vocabulary is Turtle; a test reads it")));
        self.extend(vocabulary.collect(), item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_table_has_the_size_asked_for() {
        let mut repository = Repository::builtin(1);
        let id = repository.add_table("large.csv", 260, 350_000);
        let table = repository.table(&id).unwrap();
        assert_eq!(table.file_size(), 350_000 * (8 + 259 * 4) + 10);
        let row = 4 * PERIOD + 7;
        let csv = |row| table.csv_rows(&[1, 2], row..row + 1).unwrap();
        assert_eq!(csv(row), csv(7));
        assert_ne!(csv(row), csv(8));
    }

    #[test]
    fn a_large_original_hashes_to_its_id() {
        let mut repository = Repository::builtin(1);
        let id = repository.add_original("large.bin", 5_000_000);
        let content = repository.original(&id).unwrap();
        assert_eq!(content.len(), 5_000_000);
        assert_eq!(ObjectId::of_content(&content), id);
        assert_eq!(repository.find("large.bin"), Some(id));
    }

    #[test]
    fn a_file_of_ones_own_is_served_as_it_is() {
        let mut repository = Repository::builtin(1);
        let id = repository.add_content("own.nc", &b"netCDF"[..]);
        assert_eq!(id, ObjectId::of_content(b"netCDF"));
        assert_eq!(repository.original(&id).unwrap(), b"netCDF");
    }
}
