//! A file's names, and what is found under them when it is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::journal::{Journal, Told};
use super::place::Kind;
use super::{CachePath, remove_if_there};
use icos_sync::schedule_point;

/// The names a file may have.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) complete: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) sums: PathBuf,
}

/// How far a file has come.
#[derive(Debug)]
pub(super) enum State {
    /// Grows; the journal says by what.
    Partial(Journal),
    /// Complete, checked, and under its own name. The journal is its checksums.
    Sealed(Journal),
    /// The disk does not let us: all is in memory.
    Diskless,
}

impl Paths {
    pub(super) fn of(place: &CachePath, root: &Path) -> Self {
        Self {
            complete: place.complete_in(root),
            partial: place.beside_in(root, Kind::Partial),
            journal: place.beside_in(root, Kind::Journal),
            sums: place.beside_in(root, Kind::Sums),
        }
    }

    /// The file under its own name, if it is what was sealed.
    pub(super) fn open_sealed(&self, len: u64) -> io::Result<Option<(File, Told, State)>> {
        // Writable, for a block that turns out damaged is written again.
        let file = match OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.complete)
        {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_whole = file.metadata()?.len() == len;
        if is_whole && self.sums.exists() {
            let (journal, told) = Journal::open(&self.sums, len)?;
            if told.blocks.present() == len {
                if told.mark == Some(mark_of(&file)?) {
                    return Ok(Some((file, told, State::Sealed(journal))));
                }
                // Touched since: whole, perhaps, but to be checked anew.
                fs::rename(&self.complete, &self.partial)?;
                fs::rename(&self.sums, &self.journal)?;
                return Ok(Some((file, told, State::Partial(journal))));
            }
        }
        // Not what was sealed: nobody may take it for whole.
        remove(&self.complete)?;
        remove(&self.sums)?;
        Ok(None)
    }

    pub(super) fn open_partial(&self, len: u64) -> io::Result<(File, Told, State)> {
        // The journal first: whoever has it keeps others from taking the file
        // away, which they do before they take the journal away.
        let (journal, told) = Journal::open(&self.journal, len)?;
        schedule_point();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.partial)?;
        if file.metadata()?.len() != len {
            file.set_len(len)?;
        }
        Ok((file, told, State::Partial(journal)))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match remove_if_there(path) {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Size and times of change as one number: differs once someone else has
/// changed the file.
pub(super) fn mark_of(file: &File) -> io::Result<u64> {
    let found = file.metadata()?;
    let mut bytes = Vec::with_capacity(40);
    for number in [
        found.size().cast_signed(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    Ok(XxHash3_64::oneshot(&bytes))
}
