//! Value formats: the meaning of a column's values, and how they are stored.
//!
//! The portal's `ValueFormatParser` maps the thirteen formats of its vocabulary
//! to six stored types. Each stored type reserves one value as the null.

use std::fmt;

use super::TableError;

/// The meaning of the values of a column: a format of the portal's vocabulary
/// (`http://meta.icos-cp.eu/ontologies/cpmeta/…`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ValueFormat {
    /// A whole number.
    Int32,
    /// A single precision number.
    Float32,
    /// A double precision number.
    Float64,
    /// One UTF-16 code unit, usually a quality flag.
    BmpChar,
    /// A text. The portal ingests such columns but does not serve them.
    String,
    /// True or false.
    Boolean,
    /// A date, given to the portal as `2020-12-31`.
    Iso8601Date,
    /// A date, given to the portal as `31/12/2020`.
    EtcDate,
    /// A month of a year.
    Iso8601Month,
    /// A time of day; 24:00 is stored as a value of its own.
    Iso8601TimeOfDay,
    /// An instant.
    Iso8601DateTime,
    /// A date and time without zone, given to the portal as
    /// `2020-12-31 23:30`.
    IsoLikeLocalDateTime,
    /// A date and time without zone, given to the portal as `202012312330`.
    EtcLocalDateTime,
}

impl ValueFormat {
    /// Every format of the portal's vocabulary.
    pub const ALL: [ValueFormat; 13] = [
        ValueFormat::Int32,
        ValueFormat::Float32,
        ValueFormat::Float64,
        ValueFormat::BmpChar,
        ValueFormat::String,
        ValueFormat::Boolean,
        ValueFormat::Iso8601Date,
        ValueFormat::EtcDate,
        ValueFormat::Iso8601Month,
        ValueFormat::Iso8601TimeOfDay,
        ValueFormat::Iso8601DateTime,
        ValueFormat::IsoLikeLocalDateTime,
        ValueFormat::EtcLocalDateTime,
    ];

    /// The format that the last segment of `iri` names.
    ///
    /// # Errors
    ///
    /// [`TableError::UnknownFormat`] for any other name.
    ///
    /// ```
    /// use icos_table::ValueFormat;
    ///
    /// let iri = "http://meta.icos-cp.eu/ontologies/cpmeta/float32";
    /// assert_eq!(ValueFormat::from_iri(iri)?, ValueFormat::Float32);
    /// # Ok::<(), icos_table::TableError>(())
    /// ```
    pub fn from_iri(iri: &str) -> Result<Self, TableError> {
        let name = iri.rsplit('/').next().unwrap_or(iri);
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| TableError::UnknownFormat(iri.chars().take(200).collect()))
    }

    /// The last segment of the format's IRI, e.g. `iso8601dateTime`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ValueFormat::Int32 => "int32",
            ValueFormat::Float32 => "float32",
            ValueFormat::Float64 => "float64",
            ValueFormat::BmpChar => "bmpChar",
            ValueFormat::String => "string",
            ValueFormat::Boolean => "boolean",
            ValueFormat::Iso8601Date => "iso8601date",
            ValueFormat::EtcDate => "etcDate",
            ValueFormat::Iso8601Month => "iso8601month",
            ValueFormat::Iso8601TimeOfDay => "iso8601timeOfDay",
            ValueFormat::Iso8601DateTime => "iso8601dateTime",
            ValueFormat::IsoLikeLocalDateTime => "isoLikeLocalDateTime",
            ValueFormat::EtcLocalDateTime => "etcLocalDateTime",
        }
    }

    /// What the times on a station's own clock are, in words.
    pub const LOCAL_TIME: &str = "local time of the station, without daylight saving time";

    /// Whether the values are times on the station's own clock.
    #[must_use]
    pub fn is_local_time(self) -> bool {
        matches!(
            self,
            ValueFormat::IsoLikeLocalDateTime | ValueFormat::EtcLocalDateTime
        )
    }

    /// How the values are stored.
    #[must_use]
    pub fn stored(self) -> StoredType {
        match self {
            ValueFormat::Int32
            | ValueFormat::Iso8601Date
            | ValueFormat::EtcDate
            | ValueFormat::Iso8601Month
            | ValueFormat::Iso8601TimeOfDay => StoredType::Int,
            ValueFormat::Float32 => StoredType::Float,
            ValueFormat::Float64
            | ValueFormat::Iso8601DateTime
            | ValueFormat::IsoLikeLocalDateTime
            | ValueFormat::EtcLocalDateTime => StoredType::Double,
            ValueFormat::BmpChar => StoredType::Char,
            ValueFormat::Boolean => StoredType::Byte,
            ValueFormat::String => StoredType::String,
        }
    }

    /// Size of one stored value in bytes.
    #[must_use]
    pub fn width(self) -> usize {
        self.stored().width()
    }
}

impl fmt::Display for ValueFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How values are stored in a column, big-endian: the portal's `DataType`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StoredType {
    /// 32 bits, signed.
    Int,
    /// IEEE 754, 32 bits.
    Float,
    /// IEEE 754, 64 bits.
    Double,
    /// A UTF-16 code unit.
    Char,
    /// 8 bits, signed.
    Byte,
    /// A 32-bit index into the table's dictionary.
    String,
}

impl StoredType {
    /// The name in a request's schema, e.g. `FLOAT`.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            StoredType::Int => "INT",
            StoredType::Float => "FLOAT",
            StoredType::Double => "DOUBLE",
            StoredType::Char => "CHAR",
            StoredType::Byte => "BYTE",
            StoredType::String => "STRING",
        }
    }

    /// Size of one value in bytes.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            StoredType::Int | StoredType::Float | StoredType::String => 4,
            StoredType::Double => 8,
            StoredType::Char => 2,
            StoredType::Byte => 1,
        }
    }

    /// The stored bytes of the null. For floating-point types every NaN is a
    /// null; this is the NaN that the portal writes. Empty for strings, which
    /// are never served.
    #[must_use]
    pub fn null(self) -> &'static [u8] {
        match self {
            StoredType::Int => &[0x80, 0, 0, 0],
            StoredType::Float => &[0x7f, 0xc0, 0, 0],
            StoredType::Double => &[0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
            StoredType::Char => &[0, 0],
            StoredType::Byte => &[0x80],
            StoredType::String => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_iri_parses_every_format_and_refuses_others() {
        for format in ValueFormat::ALL {
            let iri = format!("http://meta.icos-cp.eu/ontologies/cpmeta/{format}");
            assert_eq!(ValueFormat::from_iri(&iri), Ok(format));
        }
        for iri in [
            "",
            "/",
            "http://meta.icos-cp.eu/ontologies/cpmeta/",
            "float16",
        ] {
            assert_eq!(
                ValueFormat::from_iri(iri),
                Err(TableError::UnknownFormat(iri.to_owned()))
            );
        }
    }

    #[test]
    fn nulls_match_the_protocol() {
        let bytes = |stored: StoredType| stored.null();
        assert_eq!(bytes(StoredType::Int), i32::MIN.to_be_bytes());
        assert_eq!(bytes(StoredType::Byte), (-128_i8).to_be_bytes());
        assert_eq!(bytes(StoredType::Char), 0_u16.to_be_bytes());
        assert!(f32::from_be_bytes(bytes(StoredType::Float).try_into().unwrap()).is_nan());
        assert!(f64::from_be_bytes(bytes(StoredType::Double).try_into().unwrap()).is_nan());
    }
}
