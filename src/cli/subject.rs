//! Finds what an argument means in the repository: an object, a collection or a station.

use anyhow::{Context as _, bail};

use super::exit::EndedEarly;
use super::link::{Link, LinkTarget};
use super::object_argument::{ACCEPTED, MountedKind, ObjectArgument};
use crate::catalog::{Catalog, CatalogList};
use icos_portal::meta::Subject;
use icos_portal::{MetadataClient, ObjectId};

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
                        .with_context(|| format!("the repository has no station {name}")),
                };
            }
        };
        match target {
            LinkTarget::Object(id) => object_or_collection(catalog, *id).await,
            LinkTarget::Collection(id) => match collection(catalog, *id).await? {
                Some(subject) => Ok(subject),
                None => bail!("the repository has no collection {id}"),
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
            Subject::Collection(id) => bail!(
                "expected an object, found collection {id}; `icosfs find --collection {id}` lists the objects in it"
            ),
            Subject::Station(name) => bail!(
                "expected an object, found station {name}; `icosfs find --station` lists its objects"
            ),
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
        let found = match self.resolve(catalog, meta).await? {
            Subject::Collection(id) => return Ok(id),
            Subject::Object(id) => format!("object {id}"),
            Subject::Station(name) => format!("station {name}"),
        };
        Err(EndedEarly::usage(format!(
            "expected a collection, found {found}; `icosfs collections` lists the collections"
        )))
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
        bail!("the repository has no station and no file with the name {name:?}; {ACCEPTED}");
    }
    one_of(&found, &format!("the file name {name:?}"))
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
    found.with_context(|| format!("the repository has no object {id}, and no collection"))
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
        ([], []) => bail!("the repository has nothing with {by}"),
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
