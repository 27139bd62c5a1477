//! Finds what an argument means in the repository: an object, a collection or a station.

use std::fmt::Display;

use anyhow::bail;

use super::exit::EndedEarly;
use super::link::{Link, LinkTarget};
use super::object_argument::{ACCEPTED, MountedKind, ObjectArgument};
use crate::catalog::{Catalog, CatalogList, ObjectSelection, UnknownName, fold};
use icos_portal::meta::Subject;
use icos_portal::{MetadataClient, ObjectId};

/// The most stations that a message lists.
const MAX_STATIONS: usize = 8;
/// The most collections that a message lists.
const MAX_COLLECTIONS: usize = 3;
/// The length of an id.
const ID_LEN: usize = 24;

impl ObjectArgument {
    /// Finds the subject; `catalog` and `meta` must be those of
    /// [`ObjectArgument::settings`].
    ///
    /// # Errors
    ///
    /// If the repository has no such subject, or several, or does not answer.
    pub(super) async fn resolve(
        &self,
        catalog: &Catalog,
        meta: &MetadataClient,
    ) -> anyhow::Result<Subject> {
        let target = match self {
            ObjectArgument::Link(Link { target, .. }) => target,
            ObjectArgument::Name(name) => return named(catalog, meta, name).await,
            ObjectArgument::File(file) => {
                return match file.kind() {
                    MountedKind::Object(inode) => {
                        Ok(Subject::Object(file.object(*inode, catalog)?))
                    }
                    MountedKind::Collection(id) => Ok(Subject::Collection(*id)),
                    MountedKind::Station(name) => station(catalog, name)
                        .await?
                        .ok_or_else(|| no_such("station", name)),
                };
            }
        };
        match target {
            LinkTarget::Object(id) => object_or_collection(catalog, *id).await,
            LinkTarget::Collection(id) => match collection(catalog, *id).await? {
                Some(subject) => Ok(subject),
                None => Err(no_such("collection", id)),
            },
            LinkTarget::Station(name) => Ok(Subject::Station(name.clone())),
            LinkTarget::Doi(doi) => {
                let found = meta.subjects_with_doi(doi).await?;
                one_of(&found, &format!("the DOI {doi}"))
            }
        }
    }

    /// Finds the object that is meant.
    ///
    /// # Errors
    ///
    /// As [`ObjectArgument::resolve`]; if it is not an object.
    pub(super) async fn object(
        &self,
        catalog: &Catalog,
        meta: &MetadataClient,
    ) -> anyhow::Result<ObjectId> {
        match self.resolve(catalog, meta).await? {
            Subject::Object(id) => Ok(id),
            Subject::Collection(id) => Err(EndedEarly::not_found(format!(
                "expected an object, found collection {id}; `icosfs find --collection {id}` lists the objects in it"
            ))),
            Subject::Station(name) => Err(EndedEarly::not_found(format!(
                "expected an object, found station {name}; `icosfs find --station` lists its objects"
            ))),
        }
    }

    /// Finds the collection that is meant.
    ///
    /// # Errors
    ///
    /// As [`ObjectArgument::resolve`]; if it is not a collection.
    pub(super) async fn collection(
        &self,
        catalog: &Catalog,
        meta: &MetadataClient,
    ) -> anyhow::Result<ObjectId> {
        if let ObjectArgument::Name(name) = self {
            return collection_titled(catalog, name).await;
        }
        let found = match self.resolve(catalog, meta).await? {
            Subject::Collection(id) => return Ok(id),
            Subject::Object(id) => format!("object {id}"),
            Subject::Station(name) => format!("station {name}"),
        };
        Err(EndedEarly::not_found(format!(
            "expected a collection, found {found}; `icosfs collections` lists the collections"
        )))
    }
}

/// The error if the repository does not have the `what` that is named.
pub(super) fn no_such(what: &str, name: impl Display) -> anyhow::Error {
    EndedEarly::not_found(format!("the repository has no {what} {name}"))
}

/// The only collection with the words of `text` in its title.
async fn collection_titled(catalog: &Catalog, text: &str) -> anyhow::Result<ObjectId> {
    catalog.ensure_complete(CatalogList::Collections).await?;
    let mut all = catalog.collections()?;
    let titles = all.iter().flat_map(|one| {
        let shown = format!("{} ({})", one.title, one.id);
        let words = one.title.split_whitespace();
        let words: Vec<_> = words.map(|word| (word.to_owned(), shown.clone())).collect();
        words
    });
    let unknown = UnknownName::new("collection", text, titles);
    let folded = fold(text);
    if let [only] = (all.iter().filter(|one| fold(&one.title) == folded)).collect::<Vec<_>>()[..] {
        return Ok(only.id);
    }
    all.retain(|one| {
        let title = fold(&one.title);
        folded.split_whitespace().all(|word| title.contains(word))
    });
    match &all[..] {
        [] => Err(super::find::unknown(&unknown)),
        [only] => Ok(only.id),
        several => {
            let shown: Vec<String> = (several.iter().take(MAX_COLLECTIONS))
                .map(|one| format!("{} ({})", one.id, one.title))
                .collect();
            let more = several.len().saturating_sub(MAX_COLLECTIONS);
            let more = if more > 0 { ", ..." } else { "" };
            bail!(
                "the titles of {} collections contain {text:?}; give the id of one: {}{more}",
                several.len(),
                shown.join(", ")
            )
        }
    }
}

/// The station with this id or name, or the object with this file name.
async fn named(catalog: &Catalog, meta: &MetadataClient, name: &str) -> anyhow::Result<Subject> {
    // File names have an extension; ids of stations have none.
    let is_file_name = name.contains('.');
    if !is_file_name && let Some(station) = station(catalog, name).await? {
        return Ok(station);
    }
    let found = meta.subjects_named(name).await?;
    if found.is_empty() {
        if is_file_name && let Some(station) = station(catalog, name).await? {
            return Ok(station);
        }
        return Err(no_such_name(catalog, name));
    }
    one_of(&found, &format!("the file name {name:?}"))
}

/// The error for a name that is none of one station and none of a file.
fn no_such_name(catalog: &Catalog, name: &str) -> anyhow::Error {
    let vocabulary = catalog.vocabulary();
    let stations = vocabulary.stations_named(name);
    if stations.len() > 1 {
        let ids: Vec<&str> = (stations.iter().take(MAX_STATIONS))
            .map(|station| station.row().code.as_str())
            .collect();
        let more = stations.len().saturating_sub(MAX_STATIONS);
        let more = if more > 0 { ", ..." } else { "" };
        return anyhow::anyhow!(
            "{name:?} is the name of {} stations: {}{more}; give the id of one, or `icosfs find --station` for the objects of all",
            stations.len(),
            ids.join(", ")
        );
    }
    if name.len().abs_diff(ID_LEN) == 1 && name.bytes().all(is_id_symbol) {
        return EndedEarly::not_found(format!(
            "{name:?} looks like an id, but has {} characters; ids have {ID_LEN}",
            name.len()
        ));
    }
    let selection = ObjectSelection {
        stations: [name.to_owned()].into(),
        ..ObjectSelection::default()
    };
    let similar = match vocabulary.check(&selection) {
        Err(unknown) if !unknown.suggestions.is_empty() => {
            format!("; did you mean {}?", unknown.suggestions.join(" or "))
        }
        _ => format!("; {ACCEPTED}"),
    };
    EndedEarly::not_found(format!(
        "the repository has no station and no file with the name {name:?}{similar}"
    ))
}

/// Whether base64url has this symbol, of which ids are made.
fn is_id_symbol(symbol: u8) -> bool {
    symbol.is_ascii_alphanumeric() || matches!(symbol, b'-' | b'_')
}

/// The station with this id or name.
async fn station(catalog: &Catalog, name: &str) -> anyhow::Result<Option<Subject>> {
    catalog.ensure(CatalogList::Vocabulary).await?;
    let vocabulary = catalog.vocabulary();
    let found = match vocabulary.station_named(name) {
        Some(station) => Some(station),
        // A name of several stations, such as that of their country, is none of one.
        None => match vocabulary.stations_named(name)[..] {
            [only] => Some(only),
            _ => None,
        },
    };
    Ok(found.map(|station| Subject::Station(station.segment().to_owned())))
}

/// The object with this id, or else the collection.
async fn object_or_collection(catalog: &Catalog, id: ObjectId) -> anyhow::Result<Subject> {
    if catalog.object(id).await?.is_some() {
        return Ok(Subject::Object(id));
    }
    let found = collection(catalog, id).await?;
    found.ok_or_else(|| {
        EndedEarly::not_found(format!(
            "the repository has no object {id}, and no collection"
        ))
    })
}

async fn collection(catalog: &Catalog, id: ObjectId) -> anyhow::Result<Option<Subject>> {
    if catalog.collection(id)?.is_none() {
        catalog.ensure_complete(CatalogList::Collections).await?;
    }
    let found = catalog.collection(id)?;
    Ok(found.map(|collection| Subject::Collection(collection.id)))
}

/// The only subject of those found, or the only one that is not superseded.
fn one_of(found: &[(Subject, bool)], by: &str) -> anyhow::Result<Subject> {
    let current: Vec<&Subject> = (found.iter())
        .filter(|(_, is_current)| *is_current)
        .map(|(subject, _)| subject)
        .collect();
    match (current.as_slice(), found) {
        ([only], _) => Ok((*only).clone()),
        ([], [(only, _)]) => Ok(only.clone()),
        ([], []) => Err(EndedEarly::not_found(format!(
            "the repository has nothing with {by}"
        ))),
        ([], _) => bail!("several superseded versions have {by}: {}", names(found)),
        _ => bail!(
            "more than one object has {by}: {}; name one by its id",
            names(found)
        ),
    }
}

fn names(found: &[(Subject, bool)]) -> String {
    let names: Vec<String> = (found.iter())
        .map(|(subject, _)| match subject {
            Subject::Object(id) | Subject::Collection(id) => id.to_string(),
            Subject::Station(name) => name.clone(),
        })
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_current_versions_count_and_several_are_listed() {
        let subject = |text: &str| Subject::Object(ObjectId::of_content(text.as_bytes()));
        let (a, b) = (subject("a"), subject("b"));
        let found = |found: &[(&Subject, bool)]| {
            let found: Vec<_> = found.iter().map(|(s, c)| ((*s).clone(), *c)).collect();
            one_of(&found, "the DOI x").map_err(|error| error.to_string())
        };
        assert_eq!(found(&[(&a, true)]), Ok(a.clone()));
        assert_eq!(found(&[(&a, false), (&b, true)]), Ok(b.clone()));
        assert_eq!(found(&[(&a, false)]), Ok(a.clone()));
        assert_eq!(
            found(&[]),
            Err("the repository has nothing with the DOI x".to_owned())
        );
        let several = found(&[(&a, true), (&b, true)]).unwrap_err();
        assert!(
            several.starts_with("more than one object has the DOI x: "),
            "{several}"
        );
    }
}
