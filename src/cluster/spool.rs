//! Where an object stays until it is proven by the digest in its id: in memory if it is
//! one segment, else in a file without a name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::sync::OwnedSemaphorePermit;

use icos_sync::run_blocking;

/// How many bytes are read from the file at once.
const PART: u64 = 1 << 20;

/// An object that is being collected.
pub(super) struct Spool {
    file: Option<File>,
    hash: Context,
    len: u64,
}

/// A proven object.
#[derive(Debug)]
pub(super) enum ProvenObject {
    /// In memory.
    Memory {
        bytes: Bytes,
        _permit: OwnedSemaphorePermit,
    },
    /// In a file.
    File(Arc<File>),
}

impl Spool {
    pub(super) fn new() -> Self {
        Self {
            file: None,
            hash: Context::new(&SHA256),
            len: 0,
        }
    }

    /// Appends a segment to the file, which is made in `folder`.
    pub(super) async fn push(self, payload: Bytes, folder: &Path) -> io::Result<Self> {
        let folder = folder.to_owned();
        run_blocking(move || {
            let Self {
                file,
                mut hash,
                len,
            } = self;
            let file = match file {
                Some(file) => file,
                None => tempfile::tempfile_in(folder)?,
            };
            file.write_all_at(&payload, len)?;
            hash.update(&payload);
            let len = len + payload.len() as u64;
            let file = Some(file);
            Ok(Self { file, hash, len })
        })
        .await
    }

    /// Returns the object if its digest begins with `digest`.
    pub(super) fn prove(self, digest: &[u8; 18]) -> Option<ProvenObject> {
        let found = self.hash.finish();
        let file = self.file?;
        (found.as_ref().starts_with(digest)).then(|| ProvenObject::File(Arc::new(file)))
    }
}

impl ProvenObject {
    /// Reads from `offset` to `end` at most; some bytes, not all.
    pub(super) async fn read(&self, offset: u64, end: u64) -> io::Result<Bytes> {
        let end = end.min(offset.saturating_add(PART));
        match self {
            Self::Memory { bytes, .. } => {
                let at = |offset| {
                    usize::try_from(offset)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len())
                };
                Ok(bytes.slice(at(offset)..at(end)))
            }
            Self::File(file) => {
                let file = Arc::clone(file);
                run_blocking(move || {
                    let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
                    let mut bytes = vec![0; len];
                    file.read_exact_at(&mut bytes, offset)?;
                    Ok(bytes.into())
                })
                .await
            }
        }
    }
}
