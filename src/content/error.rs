//! Why a file's bytes cannot be had.

use icos_portal::{ObjectId, PortalError};
use icos_table::TableError;

use crate::cache::CacheError;
use crate::memory::NoMemory;

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ContentError {
    /// The portal did not deliver the bytes.
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// The cache could not store or return the bytes.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The object is not a table that can be rendered.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A table could not be written as Parquet.
    #[error("the table cannot be written as Parquet: {0}")]
    ParquetNotWritten(String),
    /// The recorded length or row index of a table is wrong.
    #[error(
        "the recorded length of a file of table {id} was wrong and has been discarded; open the file again"
    )]
    WrongRecord {
        /// The table.
        id: ObjectId,
    },
    /// The file was built again while it was read.
    #[error("the file was built again while it was read, and may have other bytes; open it again")]
    BuiltAgain,
    /// The downloaded bytes do not match the hash in the object's id.
    #[error(
        "the downloaded bytes of object {id} do not match its id; they were discarded, read again to download them again"
    )]
    WrongHash {
        /// The object.
        id: ObjectId,
    },
    /// The portal's metadata and its data service disagree about a length.
    #[error(
        "expected {expected} bytes of object {id} according to its metadata, the data service has {found}"
    )]
    WrongLength {
        /// The object.
        id: ObjectId,
        /// The length in the metadata.
        expected: u64,
        /// The length at the data service.
        found: u64,
    },
}

impl From<NoMemory> for ContentError {
    fn from(error: NoMemory) -> Self {
        Self::Cache(error.into())
    }
}
