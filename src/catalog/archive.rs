//! The indexes of archives: downloaded on first use and stored forever, since
//! objects never change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::OptionalExtension as _;

use super::name::component;
use super::{Catalog, CatalogError, Object};
use icos_portal::archive::ArchiveEntry;
use icos_portal::{ObjectId, PortalError};

/// The number of lists that are downloaded and parsed in parallel.
pub(super) const PARALLEL_LISTS: usize = 2;

/// Limit of the length of a path in bytes. The kernel refuses longer paths, and
/// checking a path takes time quadratic in its length.
const MAX_PATH_LEN: usize = 4096;

/// The files of an archive by safe, unique paths.
#[derive(Debug, Default)]
pub struct ArchiveIndex(BTreeMap<String, Arc<ArchiveEntry>>);

/// A file or folder in an archive.
#[derive(Clone, Debug)]
pub enum ArchiveNode {
    /// A folder.
    Folder,
    /// A file.
    File(Arc<ArchiveEntry>),
}

impl ArchiveIndex {
    pub(crate) fn new(entries: Vec<ArchiveEntry>) -> Self {
        let mut files = BTreeMap::new();
        // The last number used for each path. Counting from 1 for each of a
        // million entries of the same name would take days.
        let mut numbers: HashMap<String, u64> = HashMap::new();
        for entry in entries {
            // Folders follow from the paths of their files.
            if entry.name.ends_with(['/', '\\']) || entry.name.len() > MAX_PATH_LEN {
                continue;
            }
            let parts = entry
                .name
                .split(['/', '\\'])
                .filter(|part| !part.is_empty());
            let path: Vec<String> = parts.map(component).collect();
            let path = path.join("/");
            let mut unique = path.clone();
            while unique.is_empty() || is_taken(&files, &unique) {
                let number = numbers.entry(path.clone()).or_insert(1);
                *number += 1;
                // The number goes first if one of the parent folders is a file.
                unique = if lies_in_file(&files, &path) {
                    format!("~{number}{path}")
                } else {
                    format!("{path}~{number}")
                };
            }
            files.insert(unique, Arc::new(entry));
        }
        Self(files)
    }

    /// About how many bytes it takes in memory.
    fn bytes(&self) -> u64 {
        let entry = |(path, entry): (&String, &Arc<ArchiveEntry>)| path.len() + entry.name.len();
        let texts: usize = self.0.iter().map(entry).sum();
        // The entry, its counts and the two texts.
        let fixed = self.0.len() * 128;
        (texts + fixed) as u64
    }

    /// The node at `path`, which neither begins nor ends with a slash.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<ArchiveNode> {
        if let Some(entry) = self.0.get(path) {
            return Some(ArchiveNode::File(Arc::clone(entry)));
        }
        holds_folder(&self.0, path).then_some(ArchiveNode::Folder)
    }

    /// The nodes in the folder `prefix`, which is empty or ends with a slash.
    #[must_use]
    pub fn children(&self, prefix: &str) -> BTreeMap<String, ArchiveNode> {
        let mut children = BTreeMap::new();
        let from = self.0.range(prefix.to_owned()..);
        for (path, entry) in from.take_while(|(path, _)| path.starts_with(prefix)) {
            let rest = &path[prefix.len()..];
            match rest.split_once('/') {
                Some((folder, _)) => children.insert(folder.to_owned(), ArchiveNode::Folder),
                None => children.insert(rest.to_owned(), ArchiveNode::File(Arc::clone(entry))),
            };
        }
        children
    }
}

fn holds_folder(files: &BTreeMap<String, Arc<ArchiveEntry>>, path: &str) -> bool {
    let prefix = format!("{path}/");
    let mut from = files.range(prefix.clone()..);
    from.next()
        .is_some_and(|(path, _)| path.starts_with(&prefix))
}

/// Whether `path` is that of a file or folder, or has a file as a parent.
fn is_taken(files: &BTreeMap<String, Arc<ArchiveEntry>>, path: &str) -> bool {
    files.contains_key(path) || holds_folder(files, path) || lies_in_file(files, path)
}

fn lies_in_file(files: &BTreeMap<String, Arc<ArchiveEntry>>, path: &str) -> bool {
    let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
    above.any(|folder| files.contains_key(folder))
}

impl Catalog {
    /// The index of the archive `id`, if it is stored. Blocks on the disk for a short
    /// time.
    pub fn cached_archive(&self, id: ObjectId) -> Result<Option<Arc<ArchiveIndex>>, CatalogError> {
        if let Some(archive) = self.0.cached.lock().archives.get(&id) {
            return Ok(Some(Arc::clone(archive)));
        }
        let json: Option<String> = self.0.db.read(|db| {
            db.prepare_cached("SELECT entries FROM archive WHERE id = ?1")?
                .query_row([id.as_bytes()], |row| row.get(0))
                .optional()
        })?;
        let entries = json.and_then(|json| serde_json::from_str(&json).ok());
        Ok(entries.map(|entries| self.cache_archive(id, entries)))
    }

    /// The index of the archive `object`; downloads it if it is not stored. An
    /// object that cannot be opened as an archive has an empty index.
    pub async fn archive(&self, object: &Object) -> Result<Arc<ArchiveIndex>, CatalogError> {
        let id = object.id();
        if let Some(archive) = self.cached_archive(id)? {
            return Ok(archive);
        }
        // Never closed.
        let _permit = self.0.archive_lists.acquire().await;
        if let Some(archive) = self.cached_archive(id)? {
            return Ok(archive);
        }
        let entries = match self.0.meta.archive_entries(id).await {
            Ok(entries) => entries,
            // The portal's response for a file that is not an archive. Not stored.
            Err(error @ (PortalError::Status { .. } | PortalError::NotFound { .. })) => {
                tracing::warn!(%id, %error, "an archive cannot be opened");
                return Ok(self.cache_archive(id, Vec::new()));
            }
            Err(error) => return Err(error.into()),
        };
        let json = serde_json::to_string(&entries).unwrap_or_default();
        self.write(move |db| {
            let insert = "INSERT OR REPLACE INTO archive (id, entries) VALUES (?1, ?2)";
            db.execute(insert, (id.as_bytes(), &json)).map(drop)
        })
        .await?;
        Ok(self.cache_archive(id, entries))
    }

    fn cache_archive(&self, id: ObjectId, entries: Vec<ArchiveEntry>) -> Arc<ArchiveIndex> {
        let archive = Arc::new(ArchiveIndex::new(entries));
        let (cached, bytes) = (Arc::clone(&archive), archive.bytes());
        self.0.cached.lock().archives.put(id, cached, bytes);
        archive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_paths_become_safe_and_unique() {
        let entry = |name: &str| ArchiveEntry {
            name: name.to_owned(),
            size: 1,
        };
        let names = [
            "a/b.txt",
            "a\\c.txt",
            "/a/b.txt",
            "../../etc/passwd",
            "a/",
            "a",
            "d",
            "d/e",
            "",
        ];
        let archive = ArchiveIndex::new(names.map(entry).into());
        let paths: Vec<&str> = archive.0.keys().map(String::as_str).collect();
        let safe = [
            ".._/.._/etc/passwd",
            "a/b.txt",
            "a/b.txt~2",
            "a/c.txt",
            "a~2",
            "d",
            "~2",
            "~2d/e",
        ];
        assert_eq!(paths, safe);
        assert!(matches!(archive.find("a"), Some(ArchiveNode::Folder)));
        assert!(matches!(
            archive.find("a/b.txt"),
            Some(ArchiveNode::File(_))
        ));
        assert!(archive.find("a/b").is_none());
        let names: Vec<String> = archive.children("a/").into_keys().collect();
        assert_eq!(names, ["b.txt", "b.txt~2", "c.txt"]);
        assert!(archive.children("").contains_key("a"));
    }

    /// Regression test: each entry was compared with all earlier ones, which took
    /// days.
    #[test]
    fn many_equal_names_and_very_long_paths_are_fast() {
        let entry = |name: String| ArchiveEntry { name, size: 1 };
        let mut entries: Vec<_> = (0..100_000).map(|_| entry("a/a".to_owned())).collect();
        entries.push(entry("a/".repeat(1 << 20) + "a"));
        let archive = ArchiveIndex::new(entries);
        assert_eq!(archive.children("a/").len(), 100_000);
    }
}
