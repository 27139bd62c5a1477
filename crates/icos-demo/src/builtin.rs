//! The built-in repository: small, realistic, and with an example of each
//! difficulty that a client meets.
//!
//! `contents.json` lists its columns, objects and collections; `vocabulary.ttl`
//! describes what they refer to (stations, data types, columns). The content
//! depends only on the seed, and each original hashes to its id. Among the objects
//! are:
//!
//! - several versions of a table, of which two share a file name, as 180 real
//!   objects do;
//! - soil sensors with two columns that the data type does not list: the ingestion
//!   accepts `TS_1_1_1_SD`, since it searches the pattern in the name, but landing
//!   pages match complete names; neither knows `BATTERY`;
//! - cruises, of which one does not list its columns, and the other has a column
//!   of strings, so that the portal cannot serve it as a table;
//! - tables with each value format and its extreme values: with many rows, with
//!   none, with one;
//! - objects that the data service refuses, each for another reason, and objects
//!   with unusual names or two next versions.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use serde::Deserialize;

use super::cells;
use super::content::OriginalContent;
use super::object::{ColumnContent, DemoCollection, DemoObject, ObjectKind};
use super::random::{column_salt, mix, object_salt};
use super::repository::DemoRepository;
use super::values::{CellFormat, CellValue};
use super::vocabulary::read_turtle;
use icos_portal::{Envri, ObjectId};

impl DemoRepository {
    /// A small repository made in code: six stations of three kinds, with data
    /// in most of the portal's formats, versions, documents and collections.
    /// Each original hashes to its id.
    #[must_use]
    pub fn builtin(seed: u64) -> Self {
        let contents: BuiltinContents = serde_json::from_str(include_str!("builtin/contents.json"))
            .expect("a test reads contents.json");
        let mut repository = Self::new(Envri::Icos, seed);
        repository.insert(read_turtle(include_str!("builtin/vocabulary.ttl")));
        let mut ids: HashMap<String, ObjectId> = HashMap::new();
        for mut entry in contents.objects {
            let key = entry.key.take().unwrap_or_else(|| entry.name.clone());
            let columns = entry.columns.as_ref().map(|set| &contents.columns[set]);
            let object = entry.object(seed, columns.map_or(&[], Vec::as_slice), &ids);
            ids.insert(key, repository.add(object));
        }
        for entry in contents.collections {
            let of = |keys: Vec<String>| keys.iter().map(|key| ids[key]).collect();
            let collection = DemoCollection {
                title: entry.title,
                objects: of(entry.objects),
                collections: of(entry.collections),
                previous: of(entry.previous),
            };
            repository.insert(collection.triples(Envri::Icos));
            ids.insert(entry.key, collection.id());
        }
        repository
    }
}

#[derive(Deserialize)]
struct BuiltinContents {
    /// The columns of tables, by the name of the set.
    columns: HashMap<String, Vec<ColumnContent>>,
    objects: Vec<BuiltinObject>,
    collections: Vec<BuiltinCollection>,
}

#[derive(Deserialize)]
struct BuiltinObject {
    name: String,
    kind: ObjectKind,
    content: BuiltinOriginal,
    /// How other entries refer to this one; by default by its name.
    key: Option<String>,
    #[serde(default)]
    previous: Vec<String>,
    /// The set of columns of a table.
    columns: Option<String>,
    #[serde(default)]
    rows: u64,
    /// Whether the metadata list the columns.
    #[serde(default = "yes")]
    listed: bool,
    #[serde(default = "yes")]
    uploaded: bool,
    #[serde(default)]
    lost: bool,
    /// Other values for `object.ttl`.
    #[serde(flatten)]
    metadata: HashMap<String, String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct BuiltinCollection {
    key: String,
    title: String,
    objects: Vec<String>,
    #[serde(default)]
    collections: Vec<String>,
    #[serde(default)]
    previous: Vec<String>,
}

/// How an original is made.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum BuiltinOriginal {
    /// A table as text, compressed or not.
    Plain,
    Zip,
    Gzip,
    Raw,
    ZippedRaw,
    Fluxes,
    Supplement,
    Handbook,
}

impl BuiltinObject {
    fn object(
        &self,
        seed: u64,
        columns: &[ColumnContent],
        ids: &HashMap<String, ObjectId>,
    ) -> DemoObject {
        let given = |key: &str| self.metadata.get(key).map(String::as_str);
        let submitted = given("submitted").unwrap_or("2024-05-02T12:00:00Z");
        let published = given("published").unwrap_or("2024-05-02T12:00:07.25Z");
        let original = self.original(seed, submitted, columns);
        let mut object = DemoObject::new(self.kind, OriginalContent::Bytes(original.into()));
        object.lost = self.lost;
        if !columns.is_empty() {
            object.set_table(columns.to_vec(), self.rows, self.listed);
        }
        let metadata = &mut object.metadata;
        metadata.add("name", &self.name);
        metadata.add("submitted", submitted);
        if self.uploaded {
            metadata.add("published", published);
        }
        for key in &self.previous {
            metadata.add("previous", ids[key]);
        }
        for (name, value) in &self.metadata {
            if metadata.first(name).is_none() {
                metadata.add(name, value);
            }
        }
        object
    }

    fn original(&self, seed: u64, submitted: &str, columns: &[ColumnContent]) -> Vec<u8> {
        let name = &self.name;
        let raw = format!("raw data of {name}\n").into_bytes();
        let text = || self.text(object_salt(seed, name, submitted), submitted, columns);
        match self.content {
            BuiltinOriginal::Plain => text().into_bytes(),
            BuiltinOriginal::Zip => zip_of(&[(name.trim_end_matches(".zip"), text().as_bytes())]),
            BuiltinOriginal::Gzip => {
                let level = flate2::Compression::fast();
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
                writer.write_all(text().as_bytes()).expect(MEMORY);
                writer.finish().expect(MEMORY)
            }
            BuiltinOriginal::Raw => raw,
            BuiltinOriginal::ZippedRaw => zip_of(&[("raw.dat", &raw)]),
            BuiltinOriginal::Fluxes => fluxes(mix(seed)),
            BuiltinOriginal::Supplement => supplement(seed),
            BuiltinOriginal::Handbook => {
                b"%PDF-1.4\n% The demo repository was made in code.\n%%EOF\n".to_vec()
            }
        }
    }

    /// The values of a table as a station writes them.
    fn text(&self, salt: u64, submitted: &str, columns: &[ColumnContent]) -> String {
        let names: Vec<_> = columns.iter().map(|c| &*c.name).collect();
        let mut text = format!(
            "# {}\n# made by the demo portal\n# {submitted}\n{}\n",
            self.name,
            names.join(";")
        );
        for row in 0..self.rows {
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    text.push(';');
                }
                let salt = column_salt(salt, &column.name);
                match column.values.at(column.format, salt, row) {
                    // The station's own notation, which may differ from Java's.
                    CellValue::Float(v) => write!(text, "{v}").expect(MEMORY),
                    CellValue::Double(v) if column.format == CellFormat::Float64 => {
                        write!(text, "{v}").expect(MEMORY);
                    }
                    value => cells::write(&mut text, column.format, value)
                        .expect("clocks and lists stay within the calendar; a test draws all"),
                }
            }
            text.push('\n');
        }
        text
    }
}

const MEMORY: &str = "memory takes what is written";

/// A netCDF file in the classic format with 64-bit offsets, a little over 3 MiB:
/// fluxes by month, latitude and longitude (`ncdump -h` shows its header).
fn fluxes(seed: u64) -> Vec<u8> {
    let time = (0..156_u16).map(|month| (f32::from(month) * 30.4375).floor());
    let latitude = (0..36_u16).map(|row| 33.5 + f32::from(row));
    let longitude = (0..144_u16).map(|column| -14.75 + f32::from(column) / 2.0);
    let flux = (0..156 * 36 * 144).map(|cell| {
        let noise = u16::try_from(mix(seed ^ cell) & 0xFFFF).unwrap_or(0);
        f32::from(noise) / 1024.0 - 32.0
    });
    let values = time.chain(latitude).chain(longitude).chain(flux);
    let header = include_bytes!("builtin/fluxes.header");
    let mut file = header.to_vec();
    file.extend(values.flat_map(f32::to_be_bytes));
    file
}

/// A ZIP file with folders and odd names.
fn supplement(seed: u64) -> Vec<u8> {
    let large: Vec<u8> = (0..200_000_u64)
        .flat_map(|n| mix(n ^ seed).to_be_bytes())
        .collect();
    zip_of(&[
        (
            "readme.txt",
            b"Supplementary files of the demo inversion.\n",
        ),
        ("figures/", b""),
        ("figures/fig 1 (final).csv", b"x,y\n1,2\n"),
        ("figures/K\u{F6}ln+100%.txt", "K\u{F6}ln\n".as_bytes()),
        ("data/large.bin", &large),
        ("data/empty.txt", b""),
    ])
}

/// A ZIP archive of these entries; a name that ends in `/` is a folder.
fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .compression_level(Some(1))
        .last_modified_time(zip::DateTime::default());
    for (name, bytes) in entries {
        if name.ends_with('/') {
            archive.add_directory(*name, options).expect(MEMORY);
        } else {
            archive.start_file(*name, options).expect(MEMORY);
            archive.write_all(bytes).expect(MEMORY);
        }
    }
    archive.finish().expect(MEMORY).into_inner()
}
