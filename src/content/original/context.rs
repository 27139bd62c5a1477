//! What reading, downloading and verifying an original share.

use std::sync::Arc;

use super::corrupt_files::CorruptFiles;
use super::running_hash::RunningHash;
use crate::cache::CacheFile;
use crate::content::planner::DownloadOptions;
use crate::content::sharing::DataSource;
use crate::memory::MemoryBudget;
use icos_portal::ObjectId;

/// What reading, downloading and verifying an original share.
#[derive(Debug)]
pub(super) struct OriginalContext {
    pub(super) id: ObjectId,
    pub(super) cached: Arc<CacheFile>,
    pub(super) data: DataSource,
    pub(super) memory: MemoryBudget,
    pub(super) options: DownloadOptions,
    pub(super) hash: RunningHash,
    pub(super) corrupt_files: Arc<CorruptFiles>,
}
