//! Landing pages as files.

use bytes::Bytes;

use super::{ContentError, Contents, FileSize, SIDECAR_GUESS};
use icos_portal::meta::Subject;

impl Contents {
    /// What can be said at once about the length of the page about `subject`.
    #[must_use]
    pub fn landing_page_size(&self, subject: &Subject) -> FileSize {
        match self.sidecars.at_hand(subject) {
            Some(json) => FileSize::Exact(json.len() as u64),
            None => FileSize::Estimate(SIDECAR_GUESS),
        }
    }

    /// The page about `subject`, if it was fetched of late.
    #[must_use]
    pub fn cached_landing_page(&self, subject: &Subject) -> Option<Bytes> {
        self.sidecars.at_hand(subject)
    }

    /// The page about `subject`, byte for byte as the portal sent it.
    pub async fn landing_page(&self, subject: &Subject) -> Result<Bytes, ContentError> {
        Ok(self.sidecars.get(subject).await?)
    }
}
