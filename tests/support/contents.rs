//! Reads file contents without a mount.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use icos_demo::DemoPortal;
use icos_portal::auth::{Token, TokenAuth};
use icos_portal::http::{Http, Timeouts};
use icos_portal::{DataClient, MetadataClient, ObjectId};
use icosfs::cache::{CacheLimits, Store};
use icosfs::catalog::{Catalog, Object, ObjectSelection, Representation};
use icosfs::content::{ByteSource, ContentError, Contents, FileSize, track_source};
use tokio::runtime::Runtime;

/// The kernel's largest read.
const READ: usize = 128 << 10;

/// Contents with a cache of their own.
pub(crate) struct TestContents {
    runtime: Runtime,
    catalog: Catalog,
    contents: Arc<Contents>,
    folder: PathBuf,
}

impl TestContents {
    /// Opens the contents of `portal` with a cache in `folder`.
    pub(crate) fn of(portal: &DemoPortal, folder: &tempfile::TempDir) -> Self {
        Self::bounded(portal, folder, 1 << 40)
    }

    /// The same with a cache of this many bytes.
    pub(crate) fn bounded(portal: &DemoPortal, folder: &tempfile::TempDir, disk: u64) -> Self {
        let memory = 64 << 20;
        Self::keeping(portal, folder, folder.path(), CacheLimits { disk, memory })
    }

    /// The same without a disk cache and with this much memory.
    pub(crate) fn diskless(portal: &DemoPortal, folder: &tempfile::TempDir, memory: u64) -> Self {
        let file = folder.path().join("not a folder");
        std::fs::write(&file, "").expect("a file");
        let disk = 1 << 40;
        Self::keeping(portal, folder, &file, CacheLimits { disk, memory })
    }

    /// Opens the contents of `portal` with its lists in `folder` and its files in
    /// `cache`.
    fn keeping(
        portal: &DemoPortal,
        folder: &tempfile::TempDir,
        cache: &Path,
        limits: CacheLimits,
    ) -> Self {
        let ttl = Duration::from_mins(10);
        let http = Http::new(Timeouts::default()).expect("HTTP");
        let services = super::portal::client_services(portal);
        let token = Token::parse(services.envri(), &portal.token()).expect("a token");
        let auth = TokenAuth::new(token, "a test".to_owned(), &services);
        let data = DataClient::new(http.clone(), services.clone(), Some(Arc::new(auth)));
        let meta = MetadataClient::new(http, services);
        let store = Store::open(cache.to_owned(), limits);
        Self {
            runtime: Runtime::new().expect("a runtime"),
            catalog: Catalog::open(meta.clone(), folder.path(), ttl, ObjectSelection::default())
                .expect("a catalog"),
            contents: Arc::new(Contents::new(meta, data, store, ttl, None, None)),
            folder: folder.path().to_owned(),
        }
    }

    /// Loads all lists at once, for tests of many objects.
    #[cfg(feature = "shared-tests")]
    pub(crate) fn take_lists(&self) {
        let taken = self
            .catalog
            .ensure_complete(icosfs::catalog::CatalogList::Objects);
        self.runtime.block_on(taken).expect("the portal answers");
    }

    pub(crate) fn object(&self, id: ObjectId) -> Arc<Object> {
        let object = self.runtime.block_on(self.catalog.object(id));
        object.expect("the portal answers").expect("it has it")
    }

    pub(crate) fn size(&self, id: ObjectId, seen_as: Representation) -> FileSize {
        self.contents.size(&self.object(id), seen_as)
    }

    pub(crate) fn exact_size(
        &self,
        id: ObjectId,
        seen_as: Representation,
    ) -> Result<u64, ContentError> {
        let object = self.object(id);
        self.runtime
            .block_on(self.contents.exact_size(&object, seen_as))
    }

    pub(crate) fn try_read_at(
        &self,
        id: ObjectId,
        seen_as: Representation,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, ContentError> {
        let object = self.object(id);
        let reading = self.contents.read(&object, seen_as, 0, offset, len);
        self.runtime.block_on(reading).map(Vec::from)
    }

    pub(crate) fn read_at(
        &self,
        id: ObjectId,
        seen_as: Representation,
        offset: u64,
        len: usize,
    ) -> Vec<u8> {
        self.try_read_at(id, seen_as, offset, len)
            .unwrap_or_else(|error| panic!("{id} at {offset}: {error}"))
    }

    /// Reads, and returns the slowest source of the bytes too.
    pub(crate) fn read_from(
        &self,
        id: ObjectId,
        seen_as: Representation,
        offset: u64,
        len: usize,
    ) -> (Vec<u8>, ByteSource) {
        let object = self.object(id);
        let reading = track_source(self.contents.read(&object, seen_as, 0, offset, len));
        let (bytes, origin) = self.runtime.block_on(reading);
        (Vec::from(bytes.expect("it can be read")), origin)
    }

    /// Reads a file sequentially, as `cat` does.
    pub(crate) fn read(&self, id: ObjectId, seen_as: Representation) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let piece = self.read_at(id, seen_as, bytes.len() as u64, READ);
            if piece.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// Returns the path of a cached file.
    pub(crate) fn cached(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}
