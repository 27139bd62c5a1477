//! Originals: they prove themselves by their ids.

use std::ops::Range;

use bytes::Bytes;

use super::{DataSource, SharedBytes};
use crate::cache::CachePath;
use crate::cluster::{SharedObject, Upstream, UpstreamStream};
use crate::content::ContentError;
use icos_portal::data::OriginalStream;
use icos_portal::{DataClient, ObjectId, PortalError};

/// The part of the path of originals in the shared cache, and in the log of their use.
const ORIGINAL: &str = "original";

/// The bytes of an original, or of a part of it.
#[derive(Debug)]
pub(in crate::content) enum OriginalBytes {
    Portal(Box<OriginalStream>),
    Shared(Box<SharedBytes<OriginalRequest>>),
}

/// A request for an original to the portal.
#[derive(Debug)]
pub(in crate::content) struct OriginalRequest {
    data: DataClient,
    id: ObjectId,
    len: u64,
}

impl DataSource {
    /// Requests `range` of the original of `id`, which has `len` bytes.
    pub(in crate::content) async fn original(
        &self,
        id: ObjectId,
        len: u64,
        range: Range<u64>,
    ) -> Result<OriginalBytes, ContentError> {
        let data = self.data.clone();
        let request = OriginalRequest { data, id, len };
        let Some(sharing) = self.permitted().await else {
            let stream = request.open(range).await?;
            return Ok(OriginalBytes::Portal(Box::new(stream)));
        };
        let object = SharedObject {
            path: sharing.path(ORIGINAL, id),
            length: len,
            digest: Some(*id.as_bytes()),
        };
        let mut stream = sharing.cache.open(object, range, request);
        stream.begin().await?;
        let path = CachePath::new(ORIGINAL, &id.to_string())?;
        let shared = SharedBytes::new(stream, id, path, sharing);
        Ok(OriginalBytes::Shared(Box::new(shared)))
    }

    /// Notes that the bytes of the original of `id` turned out to be wrong.
    pub(in crate::content) fn distrust(&self, id: ObjectId) {
        if let Some(sharing) = &self.sharing {
            sharing.cache.distrust(sharing.path(ORIGINAL, id));
        }
    }
}

impl OriginalBytes {
    /// Returns the next chunk, or `None` after the last one.
    pub(in crate::content) async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        match self {
            Self::Portal(stream) => Ok(stream.chunk().await?),
            Self::Shared(original) => original.chunk().await,
        }
    }
}

impl Upstream for OriginalRequest {
    type Stream = OriginalStream;
    type Error = ContentError;

    async fn open(&self, range: Range<u64>) -> Result<OriginalStream, ContentError> {
        let to = (range.end < self.len).then_some(range.end);
        let stream = self.data.original(self.id, range.start, to).await?;
        if stream.total != self.len {
            return Err(ContentError::WrongLength {
                id: self.id,
                expected: self.len,
                found: stream.total,
            });
        }
        Ok(stream)
    }
}

impl UpstreamStream for OriginalStream {
    type Error = ContentError;

    async fn chunk(&mut self) -> Result<Option<Bytes>, ContentError> {
        OriginalStream::chunk(self).await.map_err(PortalError::into)
    }
}
