//! Entry points of the fuzz targets in `fuzz/` to parsers that are private
//! otherwise, with the properties that any input must satisfy. Not part of the API.

use crate::cache;
use crate::catalog::{ArchiveIndex, ArchiveNode};
use crate::cli;
use icos_portal::archive;

/// The list of files in a ZIP archive: every listed file is found again, and all
/// names are safe.
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

/// A `config.toml` with settings, given by number and value, and with other text.
pub fn config(settings: &[(u8, String)], text: &str) {
    cli::read_config(settings, text);
}

/// A block map of a file of `len` bytes, with a valid header or with these bytes alone:
/// all present blocks lie within the file.
pub fn block_map(len: u64, is_valid: bool, bytes: &[u8]) {
    cache::check_map_file(len, is_valid, bytes).expect("a file in memory can be written");
}
