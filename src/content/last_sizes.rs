//! The last known sizes of files that may change: landing pages, and views of tables
//! that are built with a part of them.
//!
//! They are stored with the exact sizes of rendered texts, and kept across mounts.
//! Unlike those they are estimates, though good ones, until the file is downloaded or
//! built again.

use twox_hash::XxHash3_64;

use super::built_views::BuiltView;
use crate::cache::KnownSizes;
use icos_portal::ObjectId;
use icos_portal::meta::Subject;

/// A file that may change.
#[derive(Clone, Copy, Debug)]
pub(super) enum ChangingFile<'a> {
    LandingPage(&'a Subject),
    View(ObjectId, BuiltView),
}

impl ChangingFile<'_> {
    /// The last known size.
    pub(super) fn last_size(self, sizes: &KnownSizes) -> Option<u64> {
        sizes.get(self.key())
    }

    /// Records the size of the present content.
    pub(super) fn record_size(self, sizes: &KnownSizes, size: u64) {
        sizes.set(self.key(), size);
    }

    fn key(self) -> u64 {
        let name = match self {
            Self::LandingPage(Subject::Object(id)) => format!("landing page of object {id}"),
            Self::LandingPage(Subject::Collection(id)) => {
                format!("landing page of collection {id}")
            }
            Self::LandingPage(Subject::Station(name)) => {
                format!("landing page of station {name}")
            }
            Self::View(id, BuiltView::Parquet) => format!("Parquet file of {id}"),
            Self::View(id, view) => format!("{} file of {id}", view.ending()),
        };
        XxHash3_64::oneshot(name.as_bytes())
    }
}
