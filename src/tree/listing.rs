//! The entries of a directory, as they were when it was opened.

use std::sync::Arc;

use super::Node;
use crate::catalog::Snapshot;

/// A directory's entries; cheap to keep while someone reads it.
#[derive(Debug)]
pub struct Listing(Source);

#[derive(Debug)]
enum Source {
    Few(Vec<(String, Node)>),
    Objects(Arc<Snapshot>),
}

/// One entry.
#[derive(Debug)]
pub struct Entry {
    /// Its name: one path component.
    pub name: String,
    /// What it is.
    pub node: Node,
    /// Where the listing goes on behind it.
    pub next: u64,
}

/// An object has fewer representations than this.
const SLOTS: u64 = 8;
/// Positions 0 and 1 are `.` and `..`.
const DOTS: u64 = 2;

impl Listing {
    pub(super) fn few<const N: usize>(entries: [(&str, Node); N]) -> Self {
        Self(Source::Few(
            entries
                .into_iter()
                .map(|(name, node)| (name.to_owned(), node))
                .collect(),
        ))
    }

    pub(super) fn objects(snapshot: Arc<Snapshot>) -> Self {
        Self(Source::Objects(snapshot))
    }

    /// The entries from position `from` on: 0, or an entry's `next`. `.` and
    /// `..` are the caller's, at positions 0 and 1.
    pub fn entries(&self, from: u64) -> impl Iterator<Item = Entry> + '_ {
        let from = from.saturating_sub(DOTS);
        let (few, objects) = match &self.0 {
            Source::Few(entries) => (Some(entries), None),
            Source::Objects(snapshot) => (None, Some(snapshot)),
        };
        let few = few.into_iter().flat_map(move |entries| {
            entries
                .iter()
                .zip(0_u64..)
                .skip_while(move |(_, at)| *at < from)
                .map(|((name, node), at)| Entry {
                    name: name.clone(),
                    node: node.clone(),
                    next: at + 1 + DOTS,
                })
        });
        let objects = objects.into_iter().flat_map(move |snapshot| {
            let first = usize::try_from(from / SLOTS).unwrap_or(usize::MAX);
            let rest = snapshot.objects().get(first..).unwrap_or_default();
            rest.iter()
                .zip(first as u64..)
                .flat_map(move |(object, number)| {
                    object
                        .representations()
                        .iter()
                        .zip(number * SLOTS..)
                        .filter(move |(_, at)| *at >= from)
                        .map(move |(&representation, at)| Entry {
                            name: format!("{}{}", object.id(), object.ending(representation)),
                            node: Node::File(Arc::clone(object), representation),
                            next: at + 1 + DOTS,
                        })
                })
        });
        few.chain(objects)
    }
}
