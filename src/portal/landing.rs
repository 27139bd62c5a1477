//! What a landing page's JSON says that icosfs itself needs.
//!
//! The JSON is handed to users byte for byte; this is only a reading of it.
//! Shapes: `portal-protocol`, section 5; the portal's `metacore` source.

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
    /// Length of the original in bytes.
    pub size: Option<u64>,
}

impl Landing {
    /// Reads a landing page's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, PortalError> {
        serde_json::from_slice(json).map_err(|error| {
            PortalError::bad_answer(
                Service::Meta,
                format_args!("expected a landing page's JSON, found {error}"),
            )
        })
    }
}
