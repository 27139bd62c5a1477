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
use std::io::{Cursor, Read as _, Write as _};

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
        Self::with_entries(seed, |_| true)
    }

    /// The same without tables that are difficult on purpose: those that the portal
    /// cannot serve, and those with extreme values.
    #[must_use]
    pub fn plausible(seed: u64) -> Self {
        Self::with_entries(seed, |entry| !entry.difficult)
    }

    fn with_entries(seed: u64, is_wanted: impl Fn(&BuiltinObject) -> bool) -> Self {
        let contents: BuiltinContents = serde_json::from_str(include_str!("builtin/contents.json"))
            .expect("a test reads contents.json");
        let mut repository = Self::new(Envri::Icos, seed);
        repository.insert(read_turtle(include_str!("builtin/vocabulary.ttl")));
        let mut ids: HashMap<String, ObjectId> = HashMap::new();
        for mut entry in contents.objects.into_iter().filter(is_wanted) {
            let key = entry.key.take().unwrap_or_else(|| entry.name.clone());
            let columns = entry.columns.as_ref().map(|set| &contents.columns[set]);
            let object = entry.object(seed, columns.map_or(&[], Vec::as_slice), &ids);
            ids.insert(key, repository.add(object));
        }
        for entry in contents.collections {
            let of = |keys: Vec<String>| {
                keys.iter()
                    .filter_map(|key| ids.get(key).copied())
                    .collect()
            };
            let collection = DemoCollection {
                title: entry.title,
                doi: entry.doi,
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
#[allow(clippy::struct_excessive_bools, reason = "the keys of contents.json")]
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
    /// Whether only tests need it.
    #[serde(default)]
    difficult: bool,
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
    /// With the prefix 10.5072, which is for tests: no DOI of a real dataset begins so.
    doi: Option<String>,
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

/// Bytes of `fluxes.template.gz` after decompression.
const FLUXES_LEN: usize = 3_245_236;
/// Where its variables lie, in bytes: time, latitude, longitude, flux.
const FLUXES_VARIABLES: [usize; 4] = [1925, 2549, 2693, 10_420];

/// A netCDF-4 file of a little over 3 MiB: fluxes by month, latitude and longitude.
///
/// The template is a file of netCDF4-python whose variables are contiguous, and zero.
fn fluxes(seed: u64) -> Vec<u8> {
    let template = include_bytes!("builtin/fluxes.template.gz");
    let mut file = Vec::with_capacity(FLUXES_LEN);
    (flate2::read::GzDecoder::new(&template[..]).read_to_end(&mut file)).expect(MEMORY);
    let latitude = |row: u16| 33.5 + f32::from(row);
    let variables: [Vec<f32>; 4] = [
        (0..156).map(days_before_month).collect(),
        (0..36).map(latitude).collect(),
        (0..144_u16)
            .map(|column| -14.75 + f32::from(column) / 2.0)
            .collect(),
        (0..156)
            .flat_map(|month| (0..36).map(move |row| (month, latitude(row))))
            .zip(0..)
            .flat_map(|((month, latitude), line)| {
                (0..144_u64)
                    .map(move |column| flux(month, latitude, mix(seed ^ (line * 144 + column))))
            })
            .collect(),
    ];
    for (start, values) in FLUXES_VARIABLES.into_iter().zip(variables) {
        for (place, value) in file[start..].chunks_exact_mut(4).zip(values) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    file
}

/// Days from 2010-01-01 to the first day of a month.
#[allow(clippy::cast_precision_loss, reason = "a few thousand days")]
fn days_before_month(month: i16) -> f32 {
    let start = jiff::civil::date(2010, 1, 1);
    let first = start.saturating_add(jiff::Span::new().months(month));
    let days = first
        .since((jiff::Unit::Day, start))
        .map_or(0, |span| span.get_days());
    days as f32
}

/// A flux in micromoles per square metre and second: land takes carbon dioxide up in
/// summer and emits it in winter, in the south less.
#[allow(clippy::cast_possible_truncation, reason = "three decimals")]
fn flux(month: i16, latitude: f32, random: u64) -> f32 {
    let season = std::f64::consts::TAU * (f64::from(month % 12) - 6.0) / 12.0;
    let noise = f64::from(u16::try_from(random & 0xFFFF).unwrap_or(0)) / 65_536.0 - 0.5;
    let exact = 0.4 - 2.0 * f64::from(latitude) / 60.0 * season.cos() + noise;
    ((exact * 1000.0).round() / 1000.0) as f32
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

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::values::ColumnValues;

    /// Hours by which the clock of a station's tables differs from UTC: tables of the
    /// ecosystem centre have local times.
    fn offset(entry: &BuiltinObject) -> i64 {
        match entry.metadata["station"].as_str() {
            "ES_SE-Htm" => 1,
            "ES_FI-Sii" => 2,
            _ => 0,
        }
    }

    #[test]
    fn rows_cover_the_period_that_the_metadata_state() {
        let contents = include_str!("builtin/contents.json");
        let contents: BuiltinContents = serde_json::from_str(contents).unwrap();
        let mut checked = 0;
        for entry in &contents.objects {
            let name = &entry.name;
            let Some(columns) = &entry.columns else {
                continue;
            };
            let clock = contents.columns[columns].iter().find_map(|column| {
                let ColumnValues::Clock { start, step } = column.values else {
                    return None;
                };
                Some((start, step))
            });
            let Some((start, step)) = clock else {
                continue;
            };
            let time = |key: &str| entry.metadata[key].parse::<Timestamp>().unwrap();
            let utc = |milliseconds: i64| {
                let local = Timestamp::from_millisecond(milliseconds).unwrap();
                local - SignedDuration::from_hours(offset(entry))
            };
            let last = start + step * (i64::try_from(entry.rows).unwrap() - 1);
            assert_eq!(time("start"), utc(start), "{name}");
            let ends = [utc(last), utc(last + step)];
            assert!(
                ends.contains(&time("end")),
                "{name} ends at one of {ends:?}"
            );
            assert!(time("submitted") > time("end"), "{name}");
            checked += 1;
        }
        assert!(checked > 10, "only {checked}");
    }

    #[test]
    fn variables_of_the_fluxes_fill_the_template() {
        let file = fluxes(1);
        assert_eq!(file.len(), FLUXES_LEN);
        assert_eq!(&file[1..4], b"HDF");
        let end = FLUXES_VARIABLES[3] + 4 * 156 * 36 * 144;
        assert_eq!(end, FLUXES_LEN);
        let last = f32::from_le_bytes(file[end - 4..].try_into().unwrap());
        assert!((0.0..4.0).contains(&last), "{last} in December");
        assert_eq!(
            (days_before_month(0), days_before_month(155)),
            (0.0, 4717.0)
        );
    }
}
