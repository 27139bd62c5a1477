//! Doors for the fuzz targets in `fuzz/` to parsers that nobody else calls
//! directly, with what must hold of whatever they take. No part of the API.

use crate::cache;
use crate::catalog::{ArchiveIndex, ArchiveNode};
use crate::cli;
use icos_portal::archive;

/// The list of what is in an archive: each entry is found, by safe names.
pub fn archive_list(json: &[u8]) {
    let Ok(entries) = archive::parse_list(json) else {
        return;
    };
    let archive = ArchiveIndex::new(entries);
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for (name, inside) in archive.children(&folder) {
            let safe = !matches!(&*name, "" | "." | "..") && !name.contains(['/', '\0']);
            assert!(safe && name.len() <= 255, "{name:?}");
            let path = format!("{folder}{name}");
            let found = archive.find(&path).expect("it was listed");
            match (inside, found) {
                (ArchiveNode::Folder, ArchiveNode::Folder) => folders.push(format!("{path}/")),
                (ArchiveNode::File(one), ArchiveNode::File(other)) => assert_eq!(one, other),
                both => panic!("{path:?}: {both:?}"),
            }
        }
    }
}

/// A `config.toml` of settings, by their numbers and values, and of other text:
/// what is taken, the parser takes as well.
pub fn config(settings: &[(u8, String)], text: &str) {
    cli::read_config(settings, text);
}

/// The journal of a file of `len` bytes with these records (offset, length,
/// checksum), and something behind: no block is outside or overlaps another.
pub fn block_map(len: u64, records: &[(u64, u32, u64)], behind: &[u8]) {
    cache::read_journal_of(len, records, behind);
}
