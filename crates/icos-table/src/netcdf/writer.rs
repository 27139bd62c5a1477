//! Writes the elements of a NetCDF-3 header.

use super::{NetCdfType, NetCdfVersion};

const DIMENSIONS: u32 = 0x0a;
const VARIABLES: u32 = 0x0b;
const ATTRIBUTES: u32 = 0x0c;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AttributeValue {
    Text(String),
    Bytes(Vec<i8>),
    Ints(Vec<i32>),
    Float(f32),
    Double(f64),
}

/// An attribute of a variable or of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: AttributeValue,
}

/// A variable.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    /// The numbers of its dimensions.
    pub(super) dimensions: Vec<usize>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) kind: NetCdfType,
    /// Its length in bytes, without padding; of a record variable, that of a record.
    pub(super) len: u64,
    /// Where its values begin in the file.
    pub(super) begin: u64,
}

impl Attribute {
    pub(super) fn new(name: &str, value: AttributeValue) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }

    pub(super) fn text(name: &str, text: impl Into<String>) -> Self {
        Self::new(name, AttributeValue::Text(text.into()))
    }
}

/// The header of a file with these dimensions (a length of 0 is that of the record
/// dimension, of which there are no records), attributes and variables.
pub(super) fn header(
    version: NetCdfVersion,
    dimensions: &[(String, u64)],
    attributes: &[Attribute],
    variables: &[Variable],
) -> Vec<u8> {
    let mut writer = HeaderWriter {
        out: b"CDF".to_vec(),
        version,
    };
    writer.out.push(version as u8);
    // The number of records.
    writer.count(0);
    writer.list(DIMENSIONS, dimensions, |writer, (name, len)| {
        writer.name(name);
        writer.count(*len);
    });
    writer.attributes(attributes);
    writer.list(VARIABLES, variables, HeaderWriter::variable);
    writer.out
}

struct HeaderWriter {
    out: Vec<u8>,
    version: NetCdfVersion,
}

impl HeaderWriter {
    /// A number or length of elements.
    fn count(&mut self, count: u64) {
        match self.version {
            NetCdfVersion::Cdf2 => {
                // A longer variable has this length, by the specification.
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.out.extend_from_slice(&count.to_be_bytes());
            }
            NetCdfVersion::Cdf5 => self.out.extend_from_slice(&count.to_be_bytes()),
        }
    }

    fn tag(&mut self, tag: u32) {
        self.out.extend_from_slice(&tag.to_be_bytes());
    }

    fn list<T>(&mut self, tag: u32, elements: &[T], write: impl Fn(&mut Self, &T)) {
        self.tag(if elements.is_empty() { 0 } else { tag });
        self.count(elements.len() as u64);
        for element in elements {
            write(self, element);
        }
    }

    /// Bytes, padded to a multiple of four.
    fn padded(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.out.extend_from_slice(&[0; 3][..padding]);
    }

    fn name(&mut self, name: &str) {
        self.count(name.len() as u64);
        self.padded(name.as_bytes());
    }

    fn attributes(&mut self, attributes: &[Attribute]) {
        self.list(ATTRIBUTES, attributes, |writer, attribute| {
            writer.name(&attribute.name);
            let (kind, count, bytes) = match &attribute.value {
                AttributeValue::Text(text) => (NetCdfType::Char, text.len(), text.clone().into()),
                AttributeValue::Bytes(bytes) => {
                    let values = bytes.iter().flat_map(|value| value.to_be_bytes());
                    (NetCdfType::Byte, bytes.len(), values.collect())
                }
                AttributeValue::Ints(ints) => {
                    let values = ints.iter().flat_map(|value| value.to_be_bytes());
                    (NetCdfType::Int, ints.len(), values.collect::<Vec<u8>>())
                }
                AttributeValue::Float(value) => (NetCdfType::Float, 1, value.to_be_bytes().into()),
                AttributeValue::Double(value) => {
                    (NetCdfType::Double, 1, value.to_be_bytes().into())
                }
            };
            writer.tag(kind as u32);
            writer.count(count as u64);
            writer.padded(&bytes);
        });
    }

    fn variable(&mut self, variable: &Variable) {
        self.name(&variable.name);
        self.count(variable.dimensions.len() as u64);
        for &dimension in &variable.dimensions {
            self.count(dimension as u64);
        }
        self.attributes(&variable.attributes);
        self.tag(variable.kind as u32);
        self.count(variable.len.next_multiple_of(4));
        self.out.extend_from_slice(&variable.begin.to_be_bytes());
    }
}
