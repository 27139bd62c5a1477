//! A bucket of S3, or of anything that speaks it, as a store.
//!
//! Endpoint, region and credentials come from the variables and files of the AWS tools
//! (`aws_files`), or from the machine's or container's role.
//!
//! Conditional writes (`If-None-Match: *`, `If-Match`) decide which machine has a lease. A
//! store may ignore them silently; so before the first one, an object is created twice.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore as _, PutMode, PutOptions, PutResult, RetryConfig, UpdateVersion,
};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::aws_files::AwsProfile;
use super::bounded_http::BoundedConnector;
use super::store::{StoreError, StoreVersion, StoredObject, foreign_text};

/// A write takes no longer than the timeout, and a second for so many bytes.
const LEAST_RATE: u64 = 1 << 20;

/// The longest tag of an object, in bytes. S3 has 34.
const MAX_TAG: usize = 1 << 10;

/// The store in a bucket.
#[derive(Debug)]
pub(super) struct S3Store {
    bucket: AmazonS3,
    prefix: String,
    timeout: Duration,
    has_conditions: OnceCell<bool>,
}

impl S3Store {
    /// Uses `bucket`, with keys that begin with `prefix`.
    pub(super) fn open(
        bucket: &str,
        prefix: String,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let builder = AwsProfile::load()?.apply(AmazonS3Builder::from_env());
        Self::of(builder, bucket, prefix, timeout)
    }

    /// The same with the settings of `builder`.
    fn of(
        builder: AmazonS3Builder,
        bucket: &str,
        prefix: String,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        if let Some(token) = builder.get_config_value(&AmazonS3ConfigKey::Token) {
            // The store may repeat it.
            icos_portal::remember_secret(&token);
        }
        let retries = RetryConfig {
            max_retries: 1,
            retry_timeout: timeout,
            ..RetryConfig::default()
        };
        let bucket = builder
            .with_bucket_name(bucket)
            .with_http_connector(BoundedConnector { timeout })
            .with_retry(retries)
            .build()
            .map_err(|error| store_error(&error))?;
        Ok(Self {
            bucket,
            prefix,
            timeout,
            has_conditions: OnceCell::new(),
        })
    }

    pub(super) async fn get(
        &self,
        key: &str,
        max: usize,
    ) -> Result<Option<StoredObject>, StoreError> {
        let path = self.path(key);
        let got = self.bucket.get_opts(&path, GetOptions::default());
        let found = match timeout(self.timeout, got).await {
            Err(_late) => return Err(StoreError::Stalled(self.timeout)),
            Ok(Err(Error::NotFound { .. })) => return Ok(None),
            Ok(Err(error)) => return Err(store_error(&error)),
            Ok(Ok(found)) => found,
        };
        let version = version(found.meta.e_tag.clone())?;
        let len = usize::try_from(found.meta.size).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::with_capacity(len.min(max.saturating_add(1)));
        let mut stream = found.into_stream();
        loop {
            match timeout(self.timeout, stream.next()).await {
                Err(_late) => return Err(StoreError::Stalled(self.timeout)),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(store_error(&error)),
                Ok(Some(Ok(part))) => bytes.extend_from_slice(&part),
            }
            if bytes.len() > max {
                break;
            }
        }
        Ok(Some(StoredObject {
            bytes: bytes.freeze(),
            version,
        }))
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.write(key, bytes, PutMode::Overwrite).await.map(drop)
    }

    pub(super) async fn create(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        self.expect_conditions().await?;
        self.write(key, bytes, PutMode::Create).await
    }

    pub(super) async fn replace(
        &self,
        key: &str,
        expected: &StoreVersion,
        bytes: Bytes,
    ) -> Result<Option<StoreVersion>, StoreError> {
        self.expect_conditions().await?;
        let expected = UpdateVersion {
            e_tag: Some(expected.0.clone()),
            version: None,
        };
        self.write(key, bytes, PutMode::Update(expected)).await
    }

    pub(super) async fn test_conditions(&self) -> Result<(), StoreError> {
        self.expect_conditions().await
    }

    async fn expect_conditions(&self) -> Result<(), StoreError> {
        let has_conditions = self
            .has_conditions
            .get_or_try_init(|| self.try_conditions());
        if *has_conditions.await? {
            Ok(())
        } else {
            Err(StoreError::NoConditions)
        }
    }

    /// Creates an object twice, and replaces a version that it does not have.
    async fn try_conditions(&self) -> Result<bool, StoreError> {
        let key = format!("v1/probe-{}", super::lease::random_name());
        let first = self.write(&key, "1".into(), PutMode::Create).await?;
        let second = self.write(&key, "2".into(), PutMode::Create).await?;
        let other = UpdateVersion {
            e_tag: Some("\"00000000000000000000000000000000\"".to_owned()),
            version: None,
        };
        let third = self.write(&key, "3".into(), PutMode::Update(other)).await?;
        // It is this call's own. If it stays, it is in the way of nothing.
        let path = self.path(&key);
        let deleted = futures_util::stream::iter([Ok(path)]);
        let mut deleting = self.bucket.delete_stream(deleted.boxed());
        let _ = timeout(self.timeout, deleting.next()).await;
        Ok(first.is_some() && second.is_none() && third.is_none())
    }

    /// Writes an object. `None` if the condition of `mode` does not hold.
    async fn write(
        &self,
        key: &str,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<Option<StoreVersion>, StoreError> {
        let limit = self.timeout + Duration::from_secs(bytes.len() as u64 / LEAST_RATE);
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let path = self.path(key);
        let put = self.bucket.put_opts(&path, bytes.into(), options);
        match timeout(limit, put).await {
            Err(_late) => Err(StoreError::Stalled(limit)),
            Ok(Ok(PutResult { e_tag, .. })) => version(e_tag).map(Some),
            // NotFound: there is nothing to replace.
            Ok(Err(
                Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. },
            )) => Ok(None),
            Ok(Err(error)) => Err(store_error(&error)),
        }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }
}

/// The version of an object with this tag. Tags of rejected objects are kept, so they are
/// bounded.
fn version(e_tag: Option<String>) -> Result<StoreVersion, StoreError> {
    let tag = e_tag.unwrap_or_default();
    if tag.len() > MAX_TAG {
        let reason = format!("expected an ETag of at most {MAX_TAG} bytes, found a longer one");
        return Err(StoreError::Failed(reason));
    }
    Ok(StoreVersion(tag))
}

fn store_error(error: &Error) -> StoreError {
    let text = foreign_text(&error.to_string());
    let is_full = ["507 ", "StorageFull", "QuotaExceeded", "NoSpaceLeft"];
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Denied(text),
        _ if is_full.iter().any(|word| text.contains(word)) => StoreError::Full(text),
        _ => StoreError::Failed(text),
    }
}

#[cfg(test)]
mod tests;
