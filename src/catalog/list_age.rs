//! The age of the lists, for status reports.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, CatalogList};

/// When lists were last downloaded; `None` if never.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListAge {
    /// Data types and stations.
    pub vocabulary: Option<Timestamp>,
    /// All objects in the selection.
    pub objects: Option<Timestamp>,
}

impl Catalog {
    /// When the lists were last downloaded. Blocks on the disk for a short time.
    pub fn lists(&self) -> Result<ListAge, CatalogError> {
        let taken = |list| {
            let taken = self.0.taken(list)?;
            Ok::<_, CatalogError>(taken.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
        };
        Ok(ListAge {
            vocabulary: taken(CatalogList::Vocabulary)?,
            objects: taken(CatalogList::Objects)?,
        })
    }
}
