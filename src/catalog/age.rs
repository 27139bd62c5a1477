//! How old the lists are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, Need};

/// When lists were last taken from the portal; never, if `None`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lists {
    /// Data types and stations.
    pub vocabulary: Option<Timestamp>,
    /// The objects that are shown, all of them.
    pub objects: Option<Timestamp>,
}

impl Catalog {
    /// How old the lists are. Blocks on the disk, shortly.
    pub fn lists(&self) -> Result<Lists, CatalogError> {
        let taken = |need| {
            let taken = self.0.taken(need)?;
            Ok::<_, CatalogError>(taken.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
        };
        Ok(Lists {
            vocabulary: taken(Need::Vocabulary)?,
            objects: taken(Need::Objects)?,
        })
    }
}
