//! Landing pages as files.

use bytes::Bytes;

use super::{ContentError, Contents, SIDECAR_GUESS, Size};
use icos_portal::meta::Subject;

impl Contents {
    /// What can be said at once about the length of the page about `subject`.
    #[must_use]
    pub fn page_size(&self, subject: &Subject) -> Size {
        match self.sidecars.at_hand(subject) {
            Some(json) => Size::Exact(json.len() as u64),
            None => Size::Estimate(SIDECAR_GUESS),
        }
    }

    /// The page about `subject`, if it was fetched of late.
    #[must_use]
    pub fn page_at_hand(&self, subject: &Subject) -> Option<Bytes> {
        self.sidecars.at_hand(subject)
    }

    /// The page about `subject`, byte for byte as the portal sent it.
    pub async fn page(&self, subject: &Subject) -> Result<Bytes, ContentError> {
        Ok(self.sidecars.get(subject).await?)
    }
}
