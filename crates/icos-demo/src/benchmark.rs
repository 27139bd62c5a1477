//! Contents for benchmarks: large tables and originals, computed while they are
//! read, as fast as memory allows.

use bytes::Bytes;
use oxrdf::Triple;

use super::content::OriginalContent;
use super::object::{ColumnContent, DemoObject, ObjectKind};
use super::random::hash;
use super::repository::DemoRepository;
use super::values::{CellFormat, ColumnValues};
use super::vocabulary::read_turtle;
use icos_portal::ObjectId;

/// After this many rows a large table's values repeat.
const PERIOD: u64 = 4096;

/// Length of a large table's original.
const TABLE_ORIGINAL: u64 = 1 << 20;

impl DemoRepository {
    /// Adds a table with this number of columns and rows; returns its id. The
    /// first column holds times of eight bytes, the others values of four
    /// bytes.
    ///
    /// 260 columns of 350 000 rows make a file of 365 MB.
    pub fn add_table(&mut self, name: &str, columns: usize, rows: u64) -> ObjectId {
        let measured = (1..columns).map(|number| measurements(format!("V_{number}")));
        let columns = std::iter::once(times("TIMESTAMP")).chain(measured);
        self.add_table_of("benchmarkTable", name, columns.collect(), rows, true)
    }

    /// Adds a table whose column names contain commas, quotes and a line break;
    /// returns its id. If the names are not `listed` in the metadata, only the
    /// CSV shows their order.
    pub fn add_hostile_table(&mut self, name: &str, rows: u64, listed: bool) -> ObjectId {
        let columns = vec![
            times("TIME,STAMP"),
            measurements("say \"x\", 'y'".to_owned()),
            measurements("line\nbreak".to_owned()),
        ];
        self.add_table_of("hostileTable", name, columns, rows, listed)
    }

    /// Adds an original of `size` bytes that is not a table; returns its id,
    /// the real hash (a GiB takes about a second).
    pub fn add_original(&mut self, name: &str, size: u64) -> ObjectId {
        let original = self.blocks(name, size);
        self.add_file(name, original)
    }

    /// Adds an object with this content that is not a table; returns its id.
    pub fn add_content(&mut self, name: &str, bytes: impl Into<Bytes>) -> ObjectId {
        self.add_file(name, OriginalContent::Bytes(bytes.into()))
    }

    /// Adds this many objects of a few bytes that are not tables.
    pub fn add_small_files(&mut self, count: usize) {
        let mut triples = vocabulary();
        for number in 0..count {
            let bytes = Bytes::from(number.to_string());
            let object = file(OriginalContent::Bytes(bytes));
            let object = described(object, "benchmarkFile", &format!("file_{number}.bin"));
            self.add_contents(object, &mut triples);
        }
        self.insert(triples);
    }

    fn add_file(&mut self, name: &str, original: OriginalContent) -> ObjectId {
        self.add_benchmark("benchmarkFile", name, file(original))
    }

    fn add_table_of(
        &mut self,
        spec: &str,
        name: &str,
        columns: Vec<ColumnContent>,
        rows: u64,
        listed: bool,
    ) -> ObjectId {
        let original = self.blocks(name, TABLE_ORIGINAL);
        let mut object = DemoObject::new(ObjectKind::Series, original);
        object.set_table(columns, rows, listed);
        object.metadata.add("station", "AS_HTM");
        self.add_benchmark(spec, name, object)
    }

    /// Adds an object and the data types of benchmarks.
    fn add_benchmark(&mut self, spec: &str, name: &str, object: DemoObject) -> ObjectId {
        self.insert(vocabulary());
        self.add(described(object, spec, name))
    }

    fn blocks(&self, name: &str, size: u64) -> OriginalContent {
        let seed = hash(name) ^ self.seed();
        OriginalContent::Blocks { seed, size }
    }
}

fn file(original: OriginalContent) -> DemoObject {
    let mut object = DemoObject::new(ObjectKind::Field, original);
    object.metadata.add("title", "A file for benchmarks");
    object
}

/// The object with the metadata that all benchmarks have.
fn described(mut object: DemoObject, spec: &str, name: &str) -> DemoObject {
    for (property, value) in [
        ("name", name),
        ("spec", spec),
        ("start", "1970-01-01T00:00:00Z"),
        ("end", "1990-01-01T00:00:00Z"),
        ("submitted", "2024-05-02T12:00:00Z"),
        ("published", "2024-05-02T12:00:07.25Z"),
    ] {
        object.metadata.add(property, value);
    }
    object
}

/// The data types of benchmarks.
fn vocabulary() -> Vec<Triple> {
    read_turtle(include_str!("benchmark/vocabulary.ttl"))
}

fn times(name: &str) -> ColumnContent {
    ColumnContent {
        name: name.to_owned(),
        format: CellFormat::DateTime,
        values: ColumnValues::half_hours(0),
    }
}

fn measurements(name: String) -> ColumnContent {
    ColumnContent {
        name,
        format: CellFormat::Float32,
        values: ColumnValues::Cycle(PERIOD),
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
