//! Contents for benchmarks: large tables and originals, computed while they are
//! read, as fast as memory allows.

use bytes::Bytes;

use super::content::OriginalContent;
use super::object::{ColumnContent, DemoObject, Kind, TableMetadata};
use super::repository::DemoRepository;
use super::values::{CellFormat, ColumnValues};
use super::vocabulary::read_turtle;
use crate::random::hash;
use icos_portal::ObjectId;

/// After this many rows a large table's values repeat.
const PERIOD: u64 = 4096;

/// Length of a large table's original.
const TABLE_ORIGINAL: u64 = 1 << 20;

const FILE: Kind = Kind::Field {
    spec: "benchmarkFile",
    title: "A file for benchmarks",
    time: ["1970-01-01T00:00:00Z", "1990-01-01T00:00:00Z"],
};

impl DemoRepository {
    /// Adds a table with this number of columns and rows; returns its id. The
    /// first column holds times of eight bytes, the others values of four
    /// bytes.
    ///
    /// 260 columns of 350 000 rows make a file of 365 MB.
    pub fn add_table(&mut self, name: &str, columns: usize, rows: u64) -> ObjectId {
        let time = ColumnContent {
            name: "TIMESTAMP".into(),
            format: CellFormat::DateTime,
            values: ColumnValues::Clock {
                start: 0,
                step: 1_800_000,
            },
        };
        let measured = (1..columns).map(|number| ColumnContent {
            name: format!("V_{number}").into(),
            format: CellFormat::Float32,
            values: ColumnValues::Cycle(PERIOD),
        });
        let kind = Kind::Series {
            spec: "benchmarkTable",
            station: "AS_HTM",
            time: ["1970-01-01T00:00:00Z", "1990-01-01T00:00:00Z"],
            height: None,
        };
        let mut item = self.blocks(name, kind, TABLE_ORIGINAL);
        item.table = Some(TableMetadata { rows, named: true });
        item.columns = std::iter::once(time).chain(measured).collect();
        self.add(item)
    }

    /// Adds a table whose column names contain commas, quotes and a line break;
    /// returns its id. If the names are not `listed` in the metadata, only the
    /// CSV shows their order.
    pub fn add_hostile_table(&mut self, name: &str, rows: u64, listed: bool) -> ObjectId {
        let column = |name: &'static str, format, values| ColumnContent {
            name: name.into(),
            format,
            values,
        };
        let clock = ColumnValues::Clock {
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
        item.table = Some(TableMetadata {
            rows,
            named: listed,
        });
        item.columns = vec![
            column("TIME,STAMP", CellFormat::DateTime, clock),
            column(
                "say \"x\", 'y'",
                CellFormat::Float32,
                ColumnValues::Cycle(PERIOD),
            ),
            column(
                "line\nbreak",
                CellFormat::Float32,
                ColumnValues::Cycle(PERIOD),
            ),
        ];
        self.add(item)
    }

    /// Adds an original of `size` bytes that is not a table; returns its id,
    /// the real hash (a GiB takes about a second).
    pub fn add_original(&mut self, name: &str, size: u64) -> ObjectId {
        let item = self.blocks(name, FILE, size);
        self.add(item)
    }

    /// Adds an object with this content that is not a table; returns its id.
    pub fn add_content(&mut self, name: &str, bytes: impl Into<Bytes>) -> ObjectId {
        self.add(DemoObject::new(
            name,
            FILE,
            OriginalContent::Bytes(bytes.into()),
        ))
    }

    fn blocks(&self, name: &str, kind: Kind, size: u64) -> DemoObject {
        let seed = hash(name) ^ self.seed();
        DemoObject::new(name, kind, OriginalContent::Blocks { seed, size })
    }

    fn add(&mut self, item: DemoObject) -> ObjectId {
        let vocabulary = read_turtle(include_str!("benchmark/vocabulary.ttl"));
        self.extend(vocabulary.collect(), item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_table_has_requested_size() {
        let mut repository = DemoRepository::builtin(1);
        let id = repository.add_table("large.csv", 260, 350_000);
        let table = repository.table(&id).unwrap();
        assert_eq!(table.file_size(), 350_000 * (8 + 259 * 4) + 10);
        let row = 4 * PERIOD + 7;
        let csv = |row| table.csv_rows(&[1, 2], row..row + 1).unwrap();
        assert_eq!(csv(row), csv(7));
        assert_ne!(csv(row), csv(8));
    }

    #[test]
    fn large_original_hashes_to_its_id() {
        let mut repository = DemoRepository::builtin(1);
        let id = repository.add_original("large.bin", 5_000_000);
        let content = repository.original(&id).unwrap();
        assert_eq!(content.len(), 5_000_000);
        assert_eq!(ObjectId::of_content(&content), id);
        assert_eq!(repository.find("large.bin"), Some(id));
    }

    #[test]
    fn added_content_is_served_unchanged() {
        let mut repository = DemoRepository::builtin(1);
        let id = repository.add_content("own.nc", &b"netCDF"[..]);
        assert_eq!(id, ObjectId::of_content(b"netCDF"));
        assert_eq!(repository.original(&id).unwrap(), b"netCDF");
    }
}
