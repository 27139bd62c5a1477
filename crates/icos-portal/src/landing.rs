//! The parts of the JSON of a landing page that icosfs uses.
//!
//! Users receive the JSON byte for byte; these types are only for internal use.
//! Its structure is defined by the `metacore` source of the portal. Most fields
//! are optional; an absent one means that nothing is known.

use serde::Deserialize;

use super::error::{at_most, parse_json};
use super::{PortalError, Service};

/// Maximum number of columns; real tables have hundreds.
pub(crate) const MAX_COLUMNS: usize = 10_000;
/// Maximum number of flags of a column or format, and of columns of a flag.
const MAX_FLAGS: usize = 10_000;

/// The landing page of an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landing {
    /// The complete SHA-256 digest of the original, in base64url.
    pub hash: String,
    /// The file name of the object.
    pub file_name: String,
    /// Persistent identifier, e.g. `11676/<id>`.
    pub pid: Option<String>,
    /// Digital object identifier, e.g. `10.18160/20Z1-AYJ2`.
    pub doi: Option<String>,
    /// Length of the original in bytes.
    pub size: Option<u64>,
    /// Its data type; absent for a document.
    pub specification: Option<Specification>,
    /// Information that depends on the kind of object.
    pub specific_info: Option<SpecificInfo>,
    /// Citation and licence.
    pub references: Option<References>,
}

/// A data type.
#[derive(Clone, Debug, Deserialize)]
pub struct Specification {
    /// The format of its files.
    pub format: Option<ObjectFormat>,
}

/// A file format.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectFormat {
    /// The quality flags that mean good values.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_FLAGS>")]
    pub good_flag_values: Vec<String>,
}

/// Information that depends on the kind of object.
#[derive(Clone, Debug, Deserialize)]
pub struct SpecificInfo {
    /// The columns of a table.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_COLUMNS>")]
    pub columns: Vec<ColumnInfo>,
}

/// A column of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnInfo {
    /// Its name.
    pub label: String,
    /// Its definition in the dataset.
    pub model: Option<Resource>,
    /// The kind of its values.
    pub value_type: Option<ValueType>,
    /// IRIs of the columns whose quality flags this column contains.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_FLAGS>")]
    pub is_flag_for: Vec<String>,
}

/// A kind of values.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueType {
    /// Its name, e.g. "CO2 mixing ratio (dry mole fraction)".
    #[serde(rename = "self")]
    pub resource: Option<Resource>,
    /// The kind of quantity, e.g. "portion".
    pub quantity_kind: Option<Resource>,
    /// The unit, e.g. `umol mol-1`.
    pub unit: Option<String>,
}

/// A resource with an IRI and a name.
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// Its IRI.
    pub uri: String,
    /// Its name.
    pub label: Option<String>,
}

/// Citation and licence of an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct References {
    /// The citation.
    pub citation_string: Option<String>,
    /// The licence.
    pub licence: Option<LicenceRef>,
}

/// The licence that a landing page refers to.
#[derive(Clone, Debug, Deserialize)]
pub struct LicenceRef {
    /// Its name.
    pub name: Option<String>,
    /// Its URL.
    pub url: Option<String>,
}

impl Landing {
    /// Parses the JSON of a landing page.
    pub fn parse(json: &[u8]) -> Result<Self, PortalError> {
        parse_json(Service::Meta, "the JSON of a landing page", json)
    }

    /// Returns the columns; empty if the object is not a table.
    #[must_use]
    pub fn columns(&self) -> &[ColumnInfo] {
        let info = self.specific_info.as_ref();
        info.map_or(&[], |info| info.columns.as_slice())
    }

    /// Returns the quality flags that mean good values; empty if all do.
    #[must_use]
    pub fn good_flags(&self) -> &[String] {
        let format = self
            .specification
            .as_ref()
            .and_then(|spec| spec.format.as_ref());
        format.map_or(&[], |format| format.good_flag_values.as_slice())
    }
}
