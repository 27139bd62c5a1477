//! Programs that read the first bytes of every file that they find: indexers,
//! thumbnailers, virus scanners. On a mount, each file that they open is a download. They
//! may list folders and read what is in the cache; opening another file fails with
//! EACCES.

use fuser::Errno;

use super::mount_state::MountState;
use crate::daemon::node_reader::subject;
use crate::process;
use crate::tree::{Directory, Node};

/// The length to which the kernel shortens the names of programs.
const MAX_NAME: usize = 15;

/// The names of the programs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Crawlers(Vec<String>);

impl Crawlers {
    /// The programs with these names: those of their files, or their first 15 bytes.
    #[must_use]
    pub fn named(names: &[String]) -> Self {
        let names = names.iter().map(|name| shortened(name.trim()).to_owned());
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    /// Whether the thread `id`, or its process, has one of the names. False for a
    /// process that `/proc` does not show. Blocks shortly.
    fn include(&self, id: u32) -> bool {
        !self.0.is_empty()
            && (process::names_of(id).iter()).any(|name| self.0.iter().any(|known| known == name))
    }
}

impl MountState {
    /// Fails with EACCES if the thread `caller` belongs to a crawler, and `node` cannot
    /// be read or listed without a request.
    pub(super) async fn refuse_crawler(&self, caller: u32, node: &Node) -> Result<(), Errno> {
        if !self.is_crawler(caller) || self.is_local(node).await {
            return Ok(());
        }
        tracing::debug!(%node, caller, "refused a program that opens every file");
        self.report.count_refused_crawler();
        Err(Errno::EACCES)
    }

    /// Whether the thread `caller` belongs to a crawler.
    pub(super) fn is_crawler(&self, caller: u32) -> bool {
        // Requests by the kernel itself have no caller.
        caller != 0 && self.options.crawlers.include(caller)
    }

    /// Whether a program that opens `node` causes no request.
    async fn is_local(&self, node: &Node) -> bool {
        match node {
            Node::File(object, representation) => {
                self.contents.is_local(object, *representation).await
            }
            Node::ArchiveFile(object, _, entry) => {
                self.contents.is_local_entry(object.id(), entry).await
            }
            Node::Directory(Directory::Archive(object, _)) => self.tree.knows_archive(object.id()),
            Node::Metadata(page) => match subject(page) {
                Ok(subject) => self.contents.is_local_page(&subject),
                Err(_generated) => true,
            },
            Node::Directory(_)
            | Node::CollectionLink(..)
            | Node::Readme
            | Node::NoMedia
            | Node::ControlFile(_) => true,
        }
    }
}

fn shortened(name: &str) -> &str {
    name.get(..MAX_NAME).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_recognized_by_the_start_of_its_name() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        let (id, long) = (
            std::process::id(),
            format!("{}-and-more-letters", own.trim()),
        );
        let named = |names: &[&str]| {
            Crawlers::named(
                &names
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert!(named(&["x", own.trim()]).include(id));
        assert_eq!(named(&[&long]).include(id), own.trim().len() == MAX_NAME);
        assert!(!named(&["x", ""]).include(id) && !named(&[]).include(id));
        assert!(
            !named(&[own.trim()]).include(i32::MAX.unsigned_abs()),
            "no such process"
        );
        assert_eq!(
            named(&[" localsearch-extractor-3 "]),
            named(&["localsearch-ext"])
        );
    }
}
