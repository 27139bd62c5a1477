//! The objects that a mount shows.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use twox_hash::XxHash3_64;

use super::vocabulary::{Spec, Vocabulary};
use icos_portal::lists::Versions;

/// Selects the objects that folders list. All other objects can still be read by
/// name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectSelection {
    /// Levels, 0 (raw) to 3 (elaborated).
    pub levels: Vec<u8>,
    /// Data types, by name, label or IRI; any data type if empty.
    pub datatypes: Vec<String>,
    /// Stations, by id, IRI, name or country; any or no station if empty.
    pub stations: Vec<String>,
    /// Only objects submitted at this time or later.
    pub since: Option<Timestamp>,
    /// Versions.
    pub versions: Versions,
}

impl Default for ObjectSelection {
    /// Current objects of levels 1 to 3.
    fn default() -> Self {
        Self {
            levels: vec![1, 2, 3],
            datatypes: Vec::new(),
            stations: Vec::new(),
            since: None,
            versions: Versions::Current,
        }
    }
}

/// A vocabulary, and which of its data types and stations are in the selection.
#[derive(Debug)]
pub(super) struct ResolvedSelection {
    pub(super) vocabulary: Arc<Vocabulary>,
    specs: HashSet<i64>,
    stations: Option<HashSet<i64>>,
    since: i64,
    versions: Versions,
    scope: u64,
}

/// The columns of an object that decide whether it is in the selection.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterColumns {
    pub(super) shown: i64,
    pub(super) spec: Option<i64>,
    pub(super) station: Option<i64>,
    pub(super) submitted: i64,
}

impl ResolvedSelection {
    pub(super) fn new(selection: &ObjectSelection, vocabulary: Vocabulary) -> Self {
        let of_types: Option<HashSet<i64>> = (!selection.datatypes.is_empty()).then(|| {
            let names = selection.datatypes.iter();
            let specs = names.flat_map(|name| vocabulary.specs_named(name));
            specs.map(|spec| spec.key).collect()
        });
        let is_selected = |spec: &&Arc<Spec>| {
            selection.levels.contains(&spec.level())
                && of_types
                    .as_ref()
                    .is_none_or(|keys| keys.contains(&spec.key))
        };
        let mut scope = format!("{:?}", selection.versions);
        let mut specs = HashSet::new();
        for spec in vocabulary.specs().filter(is_selected) {
            scope.push(' ');
            scope.push_str(spec.iri());
            specs.insert(spec.key);
        }
        let stations = (!selection.stations.is_empty()).then(|| {
            let names = selection.stations.iter();
            let stations = names.flat_map(|name| vocabulary.stations_named(name));
            stations.map(|station| station.key).collect()
        });
        Self {
            scope: XxHash3_64::oneshot(scope.as_bytes()),
            vocabulary: Arc::new(vocabulary),
            specs,
            stations,
            since: selection.since.map_or(i64::MIN, Timestamp::as_millisecond),
            versions: selection.versions,
        }
    }

    /// The data types in the selection.
    pub(super) fn specs(&self) -> impl Iterator<Item = &Arc<Spec>> {
        (self.vocabulary.specs()).filter(|spec| self.has_spec(spec.key))
    }

    pub(super) fn has_spec(&self, spec: i64) -> bool {
        self.specs.contains(&spec)
    }

    /// A hash of the data types and versions. Lists of another scope are incomplete
    /// for this selection.
    pub(super) fn scope(&self) -> u64 {
        self.scope
    }

    pub(super) fn has_station(&self, station: i64) -> bool {
        self.stations.as_ref().is_none_or(|s| s.contains(&station))
    }

    /// Whether the version of an object is in the selection.
    pub(super) fn has_version(&self, row: &FilterColumns) -> bool {
        match self.versions {
            Versions::Current => row.shown == 1,
            Versions::All => row.shown != 0,
        }
    }

    /// Whether an object is in the selection. Fast, since it is called for each row.
    pub(super) fn contains(&self, row: &FilterColumns) -> bool {
        self.has_version(row)
            && row.submitted >= self.since
            && row.spec.is_none_or(|spec| self.has_spec(spec))
            && match (&self.stations, row.station) {
                (None, _) => true,
                (Some(stations), Some(station)) => stations.contains(&station),
                (Some(_), None) => false,
            }
    }
}
