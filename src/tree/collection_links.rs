//! Links to collections, by their titles and DOIs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::catalog::{Collection, link_name};
use icos_portal::ObjectId;

/// What the links in a folder are named by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CollectionNaming {
    /// The title.
    Title,
    /// The DOI, with `_` for slashes.
    Doi,
}

impl CollectionNaming {
    pub(super) const ALL: [Self; 2] = [Self::Doi, Self::Title];

    /// The name of the folder.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Title => "by-title",
            Self::Doi => "by-doi",
        }
    }

    /// The links to `collections`, by name. Of collections with the same name, those
    /// after the first have their ids in it.
    pub(super) fn links(self, collections: Vec<Collection>) -> BTreeMap<String, ObjectId> {
        let mut links = BTreeMap::new();
        for collection in collections {
            let name = match self {
                Self::Title => Some(collection.title),
                Self::Doi => collection.doi,
            };
            let Some(name) = name.map(|name| link_name(&name)) else {
                continue;
            };
            let marked = format!("{name}~{}", collection.id);
            match links.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(collection.id);
                }
                Entry::Occupied(_) => {
                    links.insert(marked, collection.id);
                }
            }
        }
        links
    }
}

/// What a link to a collection says.
#[must_use]
pub fn link_target(collection: ObjectId) -> String {
    format!("../{collection}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_safe_and_distinct() {
        let collection = |text: &str, title: &str, doi: Option<&str>| Collection {
            id: ObjectId::of_content(text.as_bytes()),
            title: title.to_owned(),
            doi: doi.map(str::to_owned),
        };
        let collections = [
            collection("a", "Release 2024/1", Some("10.18160/ABCD-1")),
            collection("b", "Release 2024/1", None),
            collection("c", "..", Some("10.18160/ABCD-2")),
            collection("d", &"\u{e9}".repeat(300), None),
        ];
        let titles = CollectionNaming::Title.links(collections.to_vec());
        let id = |at: usize| collections[at].id;
        assert_eq!(titles["Release 2024_1"], id(0));
        assert_eq!(titles[&format!("Release 2024_1~{}", id(1))], id(1));
        assert_eq!(titles[".._"], id(2));
        assert!(titles.keys().all(|name| name.len() < 255));
        assert_eq!(titles.len(), 4);
        let dois: Vec<_> = CollectionNaming::Doi
            .links(collections.to_vec())
            .into_keys()
            .collect();
        assert_eq!(dois, ["10.18160_ABCD-1", "10.18160_ABCD-2"]);
    }
}
