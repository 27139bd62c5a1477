//! What a landing page's JSON says that icosfs itself needs.
//!
//! The JSON is handed to users byte for byte; this is only a reading of it.
//! Shapes: `portal-protocol`, section 5; the portal's `metacore` source. Most
//! of it may be absent, which then means that nothing is known.

use serde::Deserialize;

use super::{PortalError, Service};

/// The parts of an object's landing JSON that icosfs reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landing {
    /// The whole SHA-256 of the original, base64url.
    pub hash: String,
    /// The object's own file name.
    pub file_name: String,
    /// Persistent identifier, e.g. `11676/<id>`.
    pub pid: Option<String>,
    /// Digital object identifier, e.g. `10.18160/20Z1-AYJ2`.
    pub doi: Option<String>,
    /// Length of the original in bytes.
    pub size: Option<u64>,
    /// What kind of object it is; a document has none.
    pub specification: Option<Specification>,
    /// What is special to its kind.
    pub specific_info: Option<SpecificInfo>,
    /// How to cite it, and what may be done with it.
    pub references: Option<References>,
}

/// A data type.
#[derive(Clone, Debug, Deserialize)]
pub struct Specification {
    /// How its files are written.
    pub format: Option<ObjectFormat>,
}

/// A file format.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectFormat {
    /// The quality flags that mean good.
    #[serde(default)]
    pub good_flag_values: Vec<String>,
}

/// What is special to a kind of object.
#[derive(Clone, Debug, Deserialize)]
pub struct SpecificInfo {
    /// The columns of a table.
    #[serde(default)]
    pub columns: Vec<ColumnInfo>,
}

/// What is known of a table's column.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnInfo {
    /// Its name.
    pub label: String,
    /// Its definition in the dataset.
    pub model: Option<Resource>,
    /// What its values are.
    pub value_type: Option<ValueType>,
    /// IRIs of the definitions whose quality this column tells.
    #[serde(default)]
    pub is_flag_for: Vec<String>,
}

/// What values are.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueType {
    /// Its name, e.g. "CO2 mixing ratio (dry mole fraction)".
    #[serde(rename = "self")]
    pub resource: Option<Resource>,
    /// What kind of quantity, e.g. "portion".
    pub quantity_kind: Option<Resource>,
    /// The unit, e.g. `umol mol-1`.
    pub unit: Option<String>,
}

/// Anything with an IRI and a name.
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// Its IRI.
    pub uri: String,
    /// Its name.
    pub label: Option<String>,
}

/// How to cite an object, and what may be done with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct References {
    /// The citation.
    pub citation_string: Option<String>,
    /// The licence.
    pub licence: Option<LicenceRef>,
}

/// A licence.
#[derive(Clone, Debug, Deserialize)]
pub struct LicenceRef {
    /// Its name.
    pub name: Option<String>,
    /// Where it is to be read.
    pub url: Option<String>,
}

impl Landing {
    /// Reads a landing page's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, PortalError> {
        serde_json::from_slice(json).map_err(|error| {
            PortalError::bad_response(
                Service::Meta,
                format_args!("expected a landing page's JSON, found {error}"),
            )
        })
    }

    /// The columns that it tells of; none if it is no table.
    #[must_use]
    pub fn columns(&self) -> &[ColumnInfo] {
        let info = self.specific_info.as_ref();
        info.map_or(&[], |info| info.columns.as_slice())
    }

    /// The quality flags that mean good; none if all do.
    #[must_use]
    pub fn good_flags(&self) -> &[String] {
        let format = self
            .specification
            .as_ref()
            .and_then(|spec| spec.format.as_ref());
        format.map_or(&[], |format| format.good_flag_values.as_slice())
    }
}
