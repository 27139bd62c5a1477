//! How old the lists are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError, CatalogList};

/// When lists were last taken from the portal; never, if `None`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListAge {
    /// Data types and stations.
    pub vocabulary: Option<Timestamp>,
    /// The objects that are shown, all of them.
    pub objects: Option<Timestamp>,
}

impl Catalog {
    /// How old the lists are. Blocks on the disk, shortly.
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
