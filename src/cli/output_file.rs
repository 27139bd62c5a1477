//! Files that commands write where the user says: they appear once they are complete, and
//! no link of another user is followed.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use icos_files::{SafePath, open_special};
use tempfile::TempPath;

use super::output;

/// Size of the buffer in bytes.
const BUFFER: usize = 256 << 10;

/// Where a command writes. What is in the buffer when it fails is not written: a header
/// alone would be taken for a table without rows.
pub(super) struct Output(Option<BufWriter<Box<dyn Write + Send>>>);

impl Output {
    fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Some(BufWriter::with_capacity(BUFFER, out)))
    }

    fn writer(&mut self) -> io::Result<&mut BufWriter<Box<dyn Write + Send>>> {
        self.0
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer()?.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Otherwise the buffer would be written.
        drop(self.0.take().map(BufWriter::into_parts));
    }
}

/// A file that has another name until it is complete.
#[derive(Debug)]
pub(super) struct UnfinishedFile {
    temporary: TempPath,
    place: SafePath,
    /// As the user named it.
    shown: PathBuf,
}

impl UnfinishedFile {
    /// Gives the file, which is complete, its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let path = self.place.folder.path().join(&self.place.name);
        let persisted = self.temporary.persist(path);
        persisted
            .map_err(|error| error.error)
            .with_context(|| format!("cannot write {}", self.shown.display()))
    }
}

/// Opens the output at `path`, or standard output. Also returns the file to finish once
/// all is written, if it is one.
pub(super) fn open(path: Option<&Path>) -> anyhow::Result<(Output, Option<UnfinishedFile>)> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        return Ok((Output::new(Box::new(output::stdout())), None));
    };
    let failed = || format!("cannot write to {}", path.display());
    // A pipe or a device is written to, not replaced.
    if let Some(out) = open_special(path).with_context(failed)? {
        return Ok((Output::new(Box::new(out)), None));
    }
    // Symbolic links are followed, as by a shell's `>`, unless another user may have
    // put them there.
    let place = SafePath::resolve(path).with_context(failed)?;
    let file = tempfile::Builder::new()
        .prefix(&place.name_with(".", "."))
        .suffix(".part")
        // The default mode of a new file; the umask applies.
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(place.folder.path())
        .with_context(failed)?;
    let (file, temporary) = file.into_parts();
    let shown = path.to_owned();
    let unfinished = UnfinishedFile {
        temporary,
        place,
        shown,
    };
    Ok((Output::new(Box::new(file)), Some(unfinished)))
}

/// Writes `bytes` to the file at `path`, all or none of them.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let (mut out, file) = open(Some(path))?;
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .with_context(|| format!("cannot write to {}", path.display()))?;
    file.map_or(Ok(()), UnfinishedFile::finish)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a table that could not be downloaded left its header, which looks like
    /// a table without rows.
    #[test]
    fn what_was_written_before_a_failure_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let (read, written) = nix::unistd::pipe().unwrap();
        let mut out = Output::new(Box::new(std::fs::File::from(written)));
        out.write_all(b"TIMESTAMP,co2\n").unwrap();
        drop(out);
        assert_eq!(io::read_to_string(std::fs::File::from(read)).unwrap(), "");

        let (mut out, file) = open(Some(&path)).unwrap();
        out.write_all(b"TIMESTAMP,co2\n").unwrap();
        drop((out, file));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        write(&path, b"complete").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"complete");
    }
}
