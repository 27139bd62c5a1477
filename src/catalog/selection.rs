//! Which objects are shown: a mount's choice, and what it comes to.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use twox_hash::XxHash3_64;

use super::vocabulary::{Spec, Vocabulary};
use icos_portal::lists::Versions;

/// Which objects folders show. All others are there by their names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectSelection {
    /// Of these levels, 0 (raw) to 3 (elaborated).
    pub levels: Vec<u8>,
    /// Of these data types, by name, label or IRI; of any, if empty.
    pub datatypes: Vec<String>,
    /// Of these stations, by id or IRI; of any or none, if empty.
    pub stations: Vec<String>,
    /// Submitted at this moment or later.
    pub since: Option<Timestamp>,
    /// Which versions.
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

/// A vocabulary, and what of it is shown.
#[derive(Debug)]
pub(super) struct View {
    pub(super) vocabulary: Arc<Vocabulary>,
    specs: HashSet<i64>,
    stations: Option<HashSet<i64>>,
    since: i64,
    versions: Versions,
    scope: u64,
}

impl View {
    pub(super) fn new(selection: &ObjectSelection, vocabulary: Vocabulary) -> Self {
        let wanted = |spec: &Spec| {
            let called = [spec.name(), spec.label(), spec.iri()];
            let named =
                |wanted: &String| called.iter().any(|name| name.eq_ignore_ascii_case(wanted));
            selection.levels.contains(&spec.level())
                && (selection.datatypes.is_empty() || selection.datatypes.iter().any(named))
        };
        let shown: Vec<_> = vocabulary.specs().filter(|spec| wanted(spec)).collect();
        let mut scope = format!("{:?}", selection.versions);
        for spec in &shown {
            scope.push(' ');
            scope.push_str(spec.iri());
        }
        let specs = shown.into_iter().map(|spec| spec.key).collect();
        let stations = (!selection.stations.is_empty()).then(|| {
            let wanted = |wanted: &String, code: &str, iri: &str| {
                code.eq_ignore_ascii_case(wanted) || iri.eq_ignore_ascii_case(wanted)
            };
            (vocabulary.stations())
                .filter(|s| {
                    let row = s.row();
                    selection
                        .stations
                        .iter()
                        .any(|w| wanted(w, &row.code, &row.iri))
                })
                .map(|station| station.key)
                .collect()
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

    /// The data types that are shown.
    pub(super) fn specs(&self) -> impl Iterator<Item = &Arc<Spec>> {
        (self.vocabulary.specs()).filter(|spec| self.shows_spec(spec.key))
    }

    /// Whether objects of a data type are shown.
    pub(super) fn shows_spec(&self, spec: i64) -> bool {
        self.specs.contains(&spec)
    }

    /// Stands for the data types and versions that are shown: who shows others
    /// must ask for others.
    pub(super) fn scope(&self) -> u64 {
        self.scope
    }

    /// Whether a station's objects are shown.
    pub(super) fn shows_station(&self, station: i64) -> bool {
        self.stations.as_ref().is_none_or(|s| s.contains(&station))
    }

    /// Whether an object is of a version that is shown.
    pub(super) fn shows_version(&self, row: &Facts) -> bool {
        match self.versions {
            Versions::Current => row.shown == 1,
            Versions::All => row.shown != 0,
        }
    }

    /// Whether an object is shown: a cheap question, asked of each row.
    pub(super) fn shows(&self, row: &Facts) -> bool {
        self.shows_version(row)
            && row.submitted >= self.since
            && row.spec.is_none_or(|spec| self.shows_spec(spec))
            && match (&self.stations, row.station) {
                (None, _) => true,
                (Some(shown), Some(station)) => shown.contains(&station),
                (Some(_), None) => false,
            }
    }
}

/// What it depends on whether an object is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) shown: i64,
    pub(super) spec: Option<i64>,
    pub(super) station: Option<i64>,
    pub(super) submitted: i64,
}
