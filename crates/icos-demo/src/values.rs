//! The values of a table's cells: a function of column and row, so that any
//! slice can be computed on its own.

use std::f64::consts::TAU;

use serde::Deserialize;
use serde::de::IntoDeserializer as _;

use super::random::mix;

/// The value formats of the ontology, by their stored representation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CellFormat {
    Int32,
    Float32,
    Float64,
    BmpChar,
    Boolean,
    #[serde(rename = "string")]
    Text,
    #[serde(rename = "iso8601date", alias = "etcDate")]
    Date,
    #[serde(rename = "iso8601month")]
    Month,
    #[serde(rename = "iso8601timeOfDay")]
    TimeOfDay,
    #[serde(
        rename = "iso8601dateTime",
        alias = "isoLikeLocalDateTime",
        alias = "etcLocalDateTime"
    )]
    DateTime,
}

impl CellFormat {
    /// The format whose IRI ends in `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            name.into_deserializer();
        Self::deserialize(name).ok()
    }

    /// Bytes of one value in a `.cpb` file.
    pub(crate) fn width(self) -> u64 {
        let mut stored = Vec::new();
        self.null().store(&mut stored);
        stored.len() as u64
    }

    /// The value that stands for a missing one.
    pub(crate) fn null(self) -> CellValue {
        match self {
            Self::Int32 | Self::Date | Self::Month | Self::TimeOfDay => CellValue::Int(i32::MIN),
            Self::Float32 => CellValue::Float(f32::NAN),
            Self::Float64 | Self::DateTime => CellValue::Double(f64::NAN),
            Self::BmpChar => CellValue::Char(0),
            Self::Boolean => CellValue::Byte(i8::MIN),
            Self::Text => CellValue::Int(0),
        }
    }

    /// The value that `text` denotes: a character, or a number as it is stored.
    fn parse(self, text: &str) -> Option<CellValue> {
        Some(match self.null() {
            CellValue::Char(_) => CellValue::Char(text.encode_utf16().next()?),
            CellValue::Byte(_) => CellValue::Byte(text.parse().ok()?),
            CellValue::Float(_) => CellValue::Float(text.parse().ok()?),
            CellValue::Double(_) => CellValue::Double(text.parse().ok()?),
            CellValue::Int(_) => CellValue::Int(text.parse().ok()?),
        })
    }
}

/// The value of a cell, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CellValue {
    Int(i32),
    Float(f32),
    Double(f64),
    Char(u16),
    Byte(i8),
}

impl CellValue {
    /// Appends the value as in a `.cpb` file: big-endian.
    pub(crate) fn store(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::Float(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::Double(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::Char(v) => out.extend_from_slice(&v.to_be_bytes()),
            Self::Byte(v) => out.extend_from_slice(&v.to_be_bytes()),
        }
    }
}

/// How a column's values are computed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ColumnValues {
    /// Random values of the format: mostly in the range of measurements, with
    /// missing and extreme values among them.
    Noise,
    /// Noise that repeats after this many rows.
    Cycle(u64),
    /// Time: row `n` is `start + n * step`, in milliseconds since the epoch.
    Clock { start: i64, step: i64 },
    /// A measurement with a yearly and a daily wave and some noise, of which
    /// one in `gaps` is missing, to `decimals` decimals. Rows are `step`
    /// milliseconds apart.
    Wave {
        mean: f64,
        season: f64,
        day: f64,
        noise: f64,
        decimals: i32,
        gaps: u64,
        step: i64,
    },
    /// Mostly the first of these ASCII characters, sometimes one of the others.
    Flags(String),
    /// A track: a line with a slow wave between two values.
    Track { from: f64, to: f64, rows: u64 },
    /// A missing value and then these, repeated.
    Listed(Vec<String>),
}

const DAY: i64 = 86_400_000;

impl ColumnValues {
    /// Times that are half an hour apart.
    pub(crate) fn half_hours(start: i64) -> Self {
        let step = DAY / 48;
        Self::Clock { start, step }
    }

    /// After how many rows the values repeat, if they do.
    pub(crate) fn period(&self) -> Option<u64> {
        match self {
            Self::Cycle(rows) => Some(*rows),
            Self::Listed(values) => Some(values.len() as u64 + 1),
            Self::Noise
            | Self::Clock { .. }
            | Self::Wave { .. }
            | Self::Flags(_)
            | Self::Track { .. } => None,
        }
    }

    /// The value of `row` in a column of `format`. The `salt` distinguishes
    /// columns and objects.
    pub(crate) fn at(&self, format: CellFormat, salt: u64, row: u64) -> CellValue {
        let random = mix(salt ^ mix(row));
        match self {
            Self::Noise => noise(format, random),
            Self::Cycle(rows) => noise(format, mix(salt ^ mix(row % rows))),
            Self::Clock { start, step } => {
                clock(format, start + step * i64::try_from(row).unwrap_or(0))
            }
            Self::Wave {
                mean,
                season,
                day,
                noise,
                decimals,
                gaps,
                step,
            } => {
                if random.is_multiple_of(*gaps) {
                    return format.null();
                }
                #[allow(clippy::cast_precision_loss, reason = "a phase")]
                let days = row as f64 * *step as f64 / DAY as f64;
                let exact = mean
                    + season * (TAU * days / 365.25).cos()
                    + day * (TAU * days).cos()
                    + noise * unit(mix(random));
                measurement(format, exact, *decimals)
            }
            Self::Flags(flags) => {
                let flags = flags.as_bytes();
                let others = flags.len() as u64 - 1;
                let odd = random.is_multiple_of(16) && others > 0;
                let at = if odd { 1 + (random >> 8) % others } else { 0 };
                CellValue::Char(flags[usize::try_from(at).unwrap_or(0)].into())
            }
            Self::Track { from, to, rows } => {
                #[allow(clippy::cast_precision_loss, reason = "a phase")]
                let way = row as f64 / (*rows).max(1) as f64;
                let exact = from + (to - from) * way + 0.05 * (TAU * 9.0 * way).sin();
                measurement(format, exact, 5)
            }
            Self::Listed(values) => {
                let at = usize::try_from(row).unwrap_or(0) % (values.len() + 1);
                let listed = at.checked_sub(1).map(|at| &values[at]);
                listed.map_or(format.null(), |text| {
                    (format.parse(text)).expect("a test reads all lists")
                })
            }
        }
    }
}

/// From -1 to 1.
#[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// A measurement as a float, a double or a whole number.
#[allow(clippy::cast_possible_truncation, reason = "formats round on purpose")]
fn measurement(format: CellFormat, exact: f64, decimals: i32) -> CellValue {
    let scale = 10_f64.powi(decimals);
    let rounded = (exact * scale).round() / scale;
    match format {
        CellFormat::Float32 => CellValue::Float(rounded as f32),
        CellFormat::Float64 => CellValue::Double(rounded),
        _ => CellValue::Int(rounded as i32),
    }
}

/// A time as an instant, a time of day or a date.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "dates that people live in"
)]
fn clock(format: CellFormat, millis: i64) -> CellValue {
    match format {
        CellFormat::DateTime => CellValue::Double(millis as f64),
        CellFormat::TimeOfDay => CellValue::Int((millis.rem_euclid(DAY) / 1000) as i32),
        _ => CellValue::Int(millis.div_euclid(DAY) as i32),
    }
}

/// Numbers that are difficult to format.
const ODD: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    100.0,
    1.0e-3,
    9.999_999e-4,
    1.0e7,
    9_999_999.0,
    -12_345_678.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    2.0e-45,
    1.0e23,
    2.2e-16,
    0.1,
];

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "random bits, cut to the format's range"
)]
fn noise(format: CellFormat, random: u64) -> CellValue {
    let kind = random % 64;
    let random = mix(random);
    if kind < 4 {
        return format.null();
    }
    let odd = ODD[(random % 16) as usize];
    match format {
        CellFormat::Float32 => CellValue::Float(match kind {
            4 | 5 => odd as f32,
            6..=9 => finite32(f32::from_bits(random as u32)),
            10..=20 => (unit(random) * 400.0) as f32,
            _ => ((unit(random) * 40_000.0).round() / 100.0) as f32,
        }),
        CellFormat::Float64 => CellValue::Double(match kind {
            4 => odd,
            5 => f64::from_bits(random >> 12),
            6..=9 => finite64(f64::from_bits(random)),
            10..=20 => unit(random) * 400.0,
            _ => (unit(random) * 40_000.0).round() / 100.0,
        }),
        CellFormat::Int32 => CellValue::Int(match kind {
            4 => i32::MAX,
            5 => i32::MIN + 1,
            6..=9 => random as i32,
            _ => (random % 2000) as i32 - 1000,
        }),
        CellFormat::BmpChar => CellValue::Char(match kind {
            4 => 0xE5,
            5 => 0x4E2D,
            _ => (b'A' + (random % 26) as u8).into(),
        }),
        CellFormat::Boolean => CellValue::Byte((random % 2) as i8),
        CellFormat::Text => CellValue::Int((random % 3) as i32),
        // From the year 1 to 9999; mostly from 1990 to 2029.
        CellFormat::Date => CellValue::Int(match kind {
            4 => -719_162,
            5 => 2_932_896,
            _ => 7305 + (random % 14_610) as i32,
        }),
        CellFormat::Month => CellValue::Int(match kind {
            4 => 12,
            5 => 9999 * 12 + 11,
            _ => 1990 * 12 + (random % 480) as i32,
        }),
        // The day may end at 24:00.
        CellFormat::TimeOfDay => CellValue::Int(match kind {
            4 => 86_400,
            5..=30 => (random % 86_400) as i32,
            _ => (random % 48) as i32 * 1800,
        }),
        CellFormat::DateTime => CellValue::Double(match kind {
            4 => -62_135_596_800_000.0,
            5 => 253_402_300_799_999.0,
            6..=9 => 631_152_000_000.0 + (random % 1_262_304_000_000) as f64,
            _ => 631_152_000_000.0 + (random % 701_280) as f64 * 1_800_000.0,
        }),
    }
}

fn finite32(x: f32) -> f32 {
    if x.is_finite() { x } else { 1.5 }
}

fn finite64(x: f64) -> f64 {
    if x.is_finite() { x } else { 1.5 }
}
