//! Streams of originals and columns that continue after a lost connection.
//!
//! A stream hands out each byte once, in order. After a transient failure it
//! requests the rest, with [`Retries`]: an original from the byte where it
//! ended, columns from the start of the column where they ended.

use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{ColumnsRequest, DataClient, OriginalResponse};
use crate::http::{Response, Retries};
use crate::{ObjectId, PortalError, Service};

/// The stream of an original, or of a part of it.
#[derive(Debug)]
pub struct OriginalStream {
    /// Length of the complete original in bytes.
    pub total: u64,
    pub(super) client: DataClient,
    pub(super) id: ObjectId,
    pub(super) retries: Retries,
    /// The range that has not arrived yet.
    pub(super) rest: Range<u64>,
    /// If the present response is the complete original: the number of its bytes before
    /// the requested range that have not arrived yet.
    pub(super) skip: Option<u64>,
    pub(super) body: Response,
}

impl OriginalStream {
    /// Returns the rest of the stream.
    ///
    /// # Errors
    ///
    /// As [`OriginalStream::chunk`]; [`PortalError::BadResponse`] if the rest
    /// is longer than `limit` bytes.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, PortalError> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                return Err(PortalError::bad_response(
                    Service::Data,
                    format_args!("expected at most {limit} bytes, found more"),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Returns the next chunk, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, after all retries.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        loop {
            if self.skip.is_some() && self.rest.is_empty() {
                // What follows was not requested.
                return Ok(None);
            }
            let error = match self.body.chunk().await {
                Ok(Some(mut chunk)) => {
                    let len = chunk.len() as u64;
                    self.retries.record_progress(len, len);
                    if !self.limit_to_range(&mut chunk) {
                        continue;
                    }
                    self.rest.start += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                // The caller handles a body that is longer than requested.
                Ok(None) if self.rest.start >= self.rest.end => return Ok(None),
                Ok(None) => PortalError::ConnectionLost {
                    service: Service::Data,
                    received: self.body.received(),
                    reason: "the body is shorter than requested".to_owned(),
                },
                Err(error) => error,
            };
            if !self.retries.back_off(&error).await {
                return Err(error);
            }
            let Range { start, end } = self.rest;
            let to = (end < self.total).then_some(end);
            let OriginalResponse { total, skip, body } = self
                .client
                .original_once(self.id, start, to, &mut self.retries)
                .await?;
            if total != self.total {
                return Err(PortalError::bad_response(
                    Service::Data,
                    format_args!(
                        "expected {} bytes of {}, found {total}",
                        self.total, self.id
                    ),
                ));
            }
            (self.skip, self.body) = (skip, body);
        }
    }

    /// Removes bytes outside of the requested range from a chunk of the complete
    /// original. Returns whether any are left.
    fn limit_to_range(&mut self, chunk: &mut Bytes) -> bool {
        let Some(skip) = &mut self.skip else {
            return true;
        };
        let before = chunk
            .len()
            .min(usize::try_from(*skip).unwrap_or(usize::MAX));
        chunk.advance(before);
        *skip -= before as u64;
        let wanted = self.rest.end.saturating_sub(self.rest.start);
        chunk.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        !chunk.is_empty()
    }
}

/// The stream of columns, one after another.
#[derive(Debug)]
pub struct ColumnStream {
    pub(super) client: DataClient,
    pub(super) request: ColumnsRequest,
    pub(super) retries: Retries,
    /// Number of bytes of each column.
    pub(super) lengths: Vec<u64>,
    /// Number of bytes that have been handed out.
    pub(super) received: u64,
    /// Number of bytes at the start of the present response that have been
    /// handed out already.
    pub(super) skip: u64,
    pub(super) body: Response,
}

impl ColumnStream {
    /// Returns the length of the present response in bytes, if the service
    /// states it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.body.content_length()
    }

    /// Returns the next chunk, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, after all retries.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, PortalError> {
        loop {
            let error = match self.body.chunk().await {
                Ok(Some(mut chunk)) => {
                    let received = chunk.len() as u64;
                    let skipped = usize::try_from(self.skip)
                        .unwrap_or(usize::MAX)
                        .min(chunk.len());
                    chunk.advance(skipped);
                    self.skip -= skipped as u64;
                    let new = chunk.len() as u64;
                    self.received += new;
                    self.retries.record_progress(received, new);
                    if chunk.is_empty() {
                        continue;
                    }
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                Err(error) => error,
            };
            if !self.retries.back_off(&error).await {
                return Err(error);
            }
            let (column, before) = self.current_column();
            let mut rest = self.request.clone();
            rest.column_numbers.drain(..column);
            self.skip = self.received - before;
            self.body = self.client.columns_once(&rest, &mut self.retries).await?;
        }
    }

    /// Returns the column that the next byte belongs to, and how many bytes
    /// precede that column.
    fn current_column(&self) -> (usize, u64) {
        let mut before = 0;
        for (column, len) in self.lengths.iter().enumerate() {
            // The last column also if all its bytes have arrived, but not the
            // end of the response.
            if self.received < before + len || column + 1 == self.lengths.len() {
                return (column, before);
            }
            before += len;
        }
        (0, 0)
    }
}
