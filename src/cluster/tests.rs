//! Tests with a folder as the store and a source of bytes that counts its requests.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::cluster::seal::digest_of;

/// The portal of these tests.
#[derive(Clone, Debug)]
struct Source {
    bytes: Bytes,
    requests: Arc<AtomicU32>,
    /// How long each chunk takes.
    delay: Duration,
}

#[derive(Debug)]
struct SourceStream {
    rest: Bytes,
    delay: Duration,
}

impl Upstream for Source {
    type Stream = SourceStream;
    type Error = ();

    async fn open(&self, range: Range<u64>) -> Result<SourceStream, ()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let at = |offset| usize::try_from(offset).unwrap();
        Ok(SourceStream {
            rest: self.bytes.slice(at(range.start)..at(range.end)),
            delay: self.delay,
        })
    }
}

impl UpstreamStream for SourceStream {
    type Error = ();

    async fn chunk(&mut self) -> Result<Option<Bytes>, ()> {
        tokio::time::sleep(self.delay).await;
        let len = self.rest.len().min(1 << 20);
        Ok((len > 0).then(|| self.rest.split_to(len)))
    }
}

impl Source {
    /// An object of `len` bytes, different for each `seed`.
    fn new(len: usize, seed: u8) -> Self {
        let bytes: Vec<u8> = (0..len)
            .map(|at| (at.wrapping_mul(31) >> 3).to_le_bytes()[0] ^ seed)
            .collect();
        Self {
            bytes: bytes.into(),
            requests: Arc::default(),
            delay: Duration::ZERO,
        }
    }

    fn object(&self) -> SharedObject {
        let digest = digest_of(&self.bytes);
        let name = seal::hex(&digest[..6]);
        SharedObject {
            path: format!("v1/host/original/{name}"),
            length: self.bytes.len() as u64,
            digest: digest[..18].try_into().ok(),
        }
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Reads `range` through `cache`.
    async fn read_range(&self, cache: &SharedCache, range: Range<u64>) -> Vec<u8> {
        let mut stream = cache.open(self.object(), range, self.clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.chunk().await.unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    async fn assert_read(&self, cache: &SharedCache) {
        let bytes = self.read_range(cache, 0..self.bytes.len() as u64).await;
        assert!(bytes == self.bytes, "{} bytes are wrong", bytes.len());
    }
}

/// A folder that several machines share.
struct Cluster {
    folder: tempfile::TempDir,
    key: Option<ClusterKey>,
}

impl Cluster {
    fn with_key(has_key: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = has_key.then(|| ClusterKey::of(1));
        Self { folder, key }
    }

    fn store(&self) -> &Path {
        self.folder.path()
    }

    /// One more machine.
    fn machine(&self) -> SharedCache {
        self.machine_at(self.store())
    }

    fn machine_at(&self, store: &Path) -> SharedCache {
        self.machine_with(store, self.key.clone(), SharedCacheRole::Writer)
    }

    fn machine_with(
        &self,
        store: &Path,
        key: Option<ClusterKey>,
        role: SharedCacheRole,
    ) -> SharedCache {
        SharedCache::new(SharedCacheOptions {
            location: SharedLocation::Folder(store.to_owned()),
            leases: None,
            key,
            role,
            timeout: Duration::from_secs(30),
            memory: 64 << 20,
            scratch: self.folder.path().to_owned(),
        })
        .unwrap()
    }

    fn file(&self, object: &SharedObject, name: &str) -> std::path::PathBuf {
        self.store().join(&object.path).join(name)
    }
}

const LONG: usize = 20 << 20;
const FLUSH: Duration = Duration::from_secs(30);

#[tokio::test]
async fn object_that_one_machine_read_is_not_requested_by_another() {
    for (has_key, len) in [(true, 1000), (true, LONG), (false, 1000), (false, LONG)] {
        let (cluster, source) = (Cluster::with_key(has_key), Source::new(len, 1));
        let first = cluster.machine();
        source.assert_read(&first).await;
        first.flush(FLUSH).await;
        let second = cluster.machine();
        source.assert_read(&second).await;
        assert_eq!(source.requests(), 1, "key: {has_key}, {len} bytes");
        let (wrote, read) = (first.status(), second.status());
        assert_eq!(wrote.bytes_written, len as u64);
        assert_eq!((read.bytes_read, read.rejected), (len as u64, 0));
        assert!(cluster.file(&source.object(), "manifest").exists());
    }
}

#[tokio::test]
async fn machines_that_read_an_object_at_once_send_one_request() {
    for (has_key, len) in [(true, 1000), (true, LONG), (false, LONG)] {
        let cluster = Cluster::with_key(has_key);
        let source = Source {
            delay: Duration::from_millis(10),
            ..Source::new(len, 2)
        };
        let readers: Vec<_> = (0..6)
            .map(|_| {
                let (source, machine) = (source.clone(), cluster.machine());
                tokio::spawn(async move { source.assert_read(&machine).await })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(source.requests(), 1, "key: {has_key}, {len} bytes");
    }
}

/// With a key, each segment is proven by itself.
#[tokio::test]
async fn second_reader_has_bytes_before_the_first_has_all() {
    let (cluster, source) = (Cluster::with_key(true), Source::new(LONG, 3));
    let (first, second) = (cluster.machine(), cluster.machine());
    let all = 0..LONG as u64;
    let mut holder = first.open(source.object(), all.clone(), source.clone());
    for _ in 0..9 {
        holder.chunk().await.unwrap().unwrap();
    }
    let mut follower = second.open(source.object(), all, source.clone());
    let chunk = follower.chunk().await.unwrap().unwrap();
    assert!(source.bytes.starts_with(&chunk));
    assert_eq!(source.requests(), 1);
    assert_eq!(follower.from_store(), chunk.len() as u64);
}

#[tokio::test]
async fn follower_goes_on_where_a_holder_stopped() {
    for (has_key, expected) in [(true, 2), (false, 2)] {
        let (cluster, source) = (Cluster::with_key(has_key), Source::new(LONG, 4));
        let (first, second) = (cluster.machine(), cluster.machine());
        let mut holder = first.open(source.object(), 0..LONG as u64, source.clone());
        for _ in 0..9 {
            holder.chunk().await.unwrap().unwrap();
        }
        drop(holder);
        source.assert_read(&second).await;
        assert_eq!(source.requests(), expected);
        second.flush(FLUSH).await;
        source.assert_read(&cluster.machine()).await;
        assert_eq!(source.requests(), expected);
    }
}

/// The holder was killed: its lease is not renewed.
#[tokio::test(start_paused = true)]
async fn lease_that_is_not_renewed_is_taken_over() {
    for lease in [
        r#"{"holder":"x","node":"n","state":"held","from":0,"until":1000,"position":5,"renewals":1}"#,
        "not a lease",
    ] {
        let (cluster, source) = (Cluster::with_key(true), Source::new(1000, 5));
        let path = cluster.file(&source.object(), "lease");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lease).unwrap();
        let machine = cluster.machine();
        let started = tokio::time::Instant::now();
        source.assert_read(&machine).await;
        let waited = started.elapsed();
        assert!(waited >= lease::LEASE, "{waited:?}");
        assert!(waited < lease::LEASE + Duration::from_secs(2), "{waited:?}");
        assert_eq!((source.requests(), machine.status().taken_over), (1, 1));
    }
}

/// A lease that is renewed for ever, by a machine that hangs or by an attacker.
#[tokio::test(start_paused = true)]
async fn reader_does_not_wait_for_a_holder_that_makes_no_progress() {
    let (cluster, source) = (Cluster::with_key(true), Source::new(1000, 6));
    let path = cluster.file(&source.object(), "lease");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let renew = move |renewals: u32| {
        let lease = format!(
            r#"{{"holder":"x","node":"n","state":"held","from":0,"until":1000,"position":5,"renewals":{renewals}}}"#
        );
        std::fs::write(&path, lease).unwrap();
    };
    renew(0);
    let renewing = tokio::spawn(async move {
        for renewals in 1.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            renew(renewals);
        }
    });
    let started = tokio::time::Instant::now();
    source.assert_read(&cluster.machine()).await;
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(source.requests(), 1);
    renewing.abort();
}

/// Regression: a link, a pipe or a folder in the place of a lease, which exists for a claim and
/// not for a look, and a claim that its writer left behind, made readers wait without end.
#[tokio::test(start_paused = true)]
async fn lease_that_can_neither_be_read_nor_claimed_is_not_waited_for() {
    let free =
        r#"{"holder":"x","node":"n","state":"free","from":0,"until":1,"position":0,"renewals":0}"#;
    let claim = |path: &Path| {
        std::fs::write(path, free).unwrap();
        let found = std::fs::metadata(path).unwrap();
        let (inode, size) = (found.ino(), found.size());
        let (seconds, nanoseconds) = (found.mtime(), found.mtime_nsec());
        let name = format!(".claim-{inode:x}-{seconds:x}-{nanoseconds:x}-{size:x}");
        std::fs::File::create(path.with_file_name(name)).unwrap()
    };
    let plant: [&dyn Fn(&Path); 5] = [
        &|path| std::os::unix::fs::symlink("nowhere", path).unwrap(),
        &|path| std::fs::create_dir(path).unwrap(),
        &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        &|path| drop(claim(path)),
        &|path| {
            let future = std::time::UNIX_EPOCH + Duration::from_secs(1 << 32);
            claim(path).set_modified(future).unwrap();
        },
    ];
    for (number, plant) in plant.into_iter().enumerate() {
        let (cluster, source) = (Cluster::with_key(true), Source::new(1000, 6));
        let path = cluster.file(&source.object(), "lease");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        plant(&path);
        let (machine, limit) = (cluster.machine(), Duration::from_secs(10));
        let read = tokio::time::timeout(limit, source.assert_read(&machine));
        read.await.unwrap_or_else(|_| panic!("case {number}"));
        assert_eq!(source.requests(), 1);
    }
}

#[tokio::test]
async fn store_that_fails_costs_a_request_and_no_read() {
    let (cluster, source) = (Cluster::with_key(true), Source::new(1000, 7));
    let machine = cluster.machine_at(Path::new("/nowhere/at/all"));
    source.assert_read(&machine).await;
    source.assert_read(&machine).await;
    assert_eq!(source.requests(), 2);
    let status = machine.status();
    assert_eq!(status.state, SharedCacheState::Unavailable);
    assert_eq!(status.store_failures, 1, "the breaker is open");
}

#[tokio::test]
async fn store_works_again_by_itself_once_it_is_back() {
    let (cluster, source) = (Cluster::with_key(true), Source::new(1000, 8));
    let store = cluster.store().join("later");
    let machine = cluster.machine_at(&store);
    source.assert_read(&machine).await;
    std::fs::create_dir(&store).unwrap();
    let works = async {
        while machine.status().state != SharedCacheState::Working {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(FLUSH, works).await.unwrap();
    source.assert_read(&machine).await;
    machine.flush(FLUSH).await;
    source.assert_read(&cluster.machine_at(&store)).await;
    assert_eq!(source.requests(), 2);
}

#[tokio::test]
async fn ranges_are_shared_with_a_key_only() {
    for (has_key, expected) in [(true, 1), (false, 2)] {
        let (cluster, source) = (Cluster::with_key(has_key), Source::new(LONG, 9));
        let first = cluster.machine();
        source.assert_read(&first).await;
        first.flush(FLUSH).await;
        let second = cluster.machine();
        let range = (SEGMENT - 7)..(SEGMENT + 9);
        let bytes = source.read_range(&second, range.clone()).await;
        let at = |offset| usize::try_from(offset).unwrap();
        assert!(bytes == source.bytes[at(range.start)..at(range.end)]);
        assert_eq!(source.requests(), expected, "key: {has_key}");
    }
}

/// The holder streams before it can know that the portal sent wrong bytes.
#[tokio::test]
async fn object_that_does_not_match_its_id_is_withdrawn() {
    for has_key in [true, false] {
        let (cluster, right) = (Cluster::with_key(has_key), Source::new(LONG, 10));
        let mut bytes = right.bytes.to_vec();
        bytes[9 << 20] ^= 1;
        let first = cluster.machine();
        let wrong = Wrong(Source {
            bytes: bytes.into(),
            ..right.clone()
        });
        let mut stream = first.open(right.object(), 0..LONG as u64, wrong);
        while stream.chunk().await.unwrap().is_some() {}
        first.flush(FLUSH).await;
        let second = cluster.machine();
        right.assert_read(&second).await;
        assert_eq!(right.requests(), 2);
        assert!(second.status().rejected > 0);
        second.flush(FLUSH).await;
        right.assert_read(&cluster.machine()).await;
        assert_eq!(
            right.requests(),
            2,
            "the right bytes replace the wrong ones"
        );
    }
}

/// A source of other bytes than its object's.
#[derive(Debug)]
struct Wrong(Source);

impl Upstream for Wrong {
    type Stream = SourceStream;
    type Error = ();

    async fn open(&self, range: Range<u64>) -> Result<SourceStream, ()> {
        self.0.open(range).await
    }
}

/// Readers follow the writer while it downloads, fetch what it has not for themselves, and
/// leave the store as it is.
#[tokio::test]
async fn reader_proves_what_the_writer_wrote_and_writes_nothing() {
    let (writer, public) = ClusterKey::pair_of(3);
    let cluster = Cluster {
        key: Some(writer),
        ..Cluster::with_key(false)
    };
    let reader = || {
        let key = Some(public.clone());
        cluster.machine_with(cluster.store(), key, SharedCacheRole::Reader)
    };
    let (source, other) = (Source::new(LONG, 12), Source::new(1000, 13));
    let (first, follower) = (cluster.machine(), reader());
    let mut holder = first.open(source.object(), 0..LONG as u64, source.clone());
    holder.chunk().await.unwrap().unwrap();
    let rest = async { while holder.chunk().await.unwrap().is_some() {} };
    tokio::join!(rest, source.assert_read(&follower));
    first.flush(FLUSH).await;
    source.assert_read(&reader()).await;
    assert_eq!(source.requests(), 1);

    let files = || {
        let mut files: Vec<_> = walk(cluster.store());
        files.sort();
        files
    };
    let before = files();
    let alone = reader();
    other.assert_read(&alone).await;
    other.assert_read(&alone).await;
    let request = async { Ok::<_, ()>(((), Bytes::from_static(b"value"))) };
    let read = |_| std::future::ready(Some(()));
    alone
        .value("v1/host/x".to_owned(), read, request)
        .await
        .unwrap();
    alone.flush(FLUSH).await;
    alone.probe().await.unwrap();
    assert_eq!((other.requests(), files()), (2, before));
    let status = alone.status();
    assert_eq!((status.segments_written, status.leases), (0, 0));
    assert!(status.reads_only && status.keyed);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn distrusted_object_is_fetched_and_replaced() {
    let (cluster, source) = (Cluster::with_key(true), Source::new(1000, 11));
    source.assert_read(&cluster.machine()).await;
    let machine = cluster.machine();
    machine.distrust(source.object().path);
    source.assert_read(&machine).await;
    assert_eq!(source.requests(), 2);
}

#[tokio::test]
async fn value_is_requested_once_and_again_if_it_is_reloaded_or_attacked() {
    let cluster = Cluster::with_key(true);
    let requests = AtomicU32::new(0);
    let value = async |cache: &SharedCache, reload: bool| {
        let request = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let number = requests.fetch_add(1, Ordering::Relaxed);
            let value = Bytes::from(format!("value {number}"));
            Ok::<_, ()>((value.clone(), value))
        };
        let path = "v1/host/header/x".to_owned();
        let read = |value: Bytes| std::future::ready((!reload).then_some(value));
        let value = cache.value(path, read, request).await.unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    };
    let (first, second) = (cluster.machine(), cluster.machine());
    let (one, other) = tokio::join!(value(&first, false), value(&second, false));
    assert_eq!((&*one, &*other), ("value 0", "value 0"));
    assert_eq!(value(&second, true).await, "value 1");
    assert_eq!(value(&first, false).await, "value 1");
    std::fs::write(cluster.store().join("v1/host/header/x/0"), "forged").unwrap();
    assert_eq!(value(&first, false).await, "value 2");
    assert_eq!(first.status().rejected, 1);
    assert_eq!(value(&second, false).await, "value 2");
}

/// What someone with write access to the store may do to it.
#[derive(Clone, Debug)]
enum Attack {
    Flip(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
    Append(Vec<u8>),
    Replace(Vec<u8>),
    /// The segment of another object of the same length, sealed by the cluster.
    SwapObject,
    /// The manifest or the lease of the object in place of its segment.
    SwapKind(bool),
    /// Other bytes with a seal: the checksum that needs no key, or another key.
    Forge(bool),
}

fn attack() -> impl Strategy<Value = Attack> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Attack::Flip(at, bit)),
        any::<Index>().prop_map(Attack::Truncate),
        proptest::collection::vec(any::<u8>(), 1..20).prop_map(Attack::Append),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Attack::Replace),
        Just(Attack::SwapObject),
        any::<bool>().prop_map(Attack::SwapKind),
        any::<bool>().prop_map(Attack::Forge),
    ]
}

/// Each attack is on a segment of its own: all are rejected, and readers get the right
/// bytes. `PROPTEST_CASES=1000` tries more of them, `PROPTEST_RNG_SEED` repeats a run.
#[test]
fn attacked_segments_are_rejected_and_fetched_again() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig {
        max_shrink_iters: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let keys = prop_oneof![
        Just(None),
        Just(Some(ClusterKey::of(1))),
        Just(Some(ClusterKey::pair_of(1).0)),
    ];
    let cases = (keys, attack(), 1..2000_usize, any::<u8>());
    TestRunner::new(config)
        .run(&cases, |(key, attack, len, seed)| {
            runtime.block_on(assert_rejected(key, &attack, len, seed));
            Ok(())
        })
        .unwrap();
}

async fn assert_rejected(key: Option<ClusterKey>, attack: &Attack, len: usize, seed: u8) {
    let cluster = Cluster {
        key,
        ..Cluster::with_key(false)
    };
    let (source, other) = (Source::new(len, seed), Source::new(len, !seed));
    let first = cluster.machine();
    source.assert_read(&first).await;
    other.assert_read(&first).await;
    first.flush(FLUSH).await;
    let object = source.object();
    let path = cluster.file(&object, "0");
    let mut bytes = std::fs::read(&path).unwrap();
    match attack {
        Attack::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Attack::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        Attack::Append(more) => bytes.extend_from_slice(more),
        Attack::Replace(new) => bytes.clone_from(new),
        Attack::SwapObject => bytes = std::fs::read(cluster.file(&other.object(), "0")).unwrap(),
        Attack::SwapKind(manifest) => {
            let name = if *manifest { "manifest" } else { "lease" };
            bytes = std::fs::read(cluster.file(&object, name)).unwrap();
        }
        Attack::Forge(by_key) => {
            let seal = if *by_key {
                ClusterKey::of(2).into_seal()
            } else {
                Seal::Checksum
            };
            let key = object.segment_key(0);
            let label = seal::SealLabel {
                key: &key,
                length: object.length,
            };
            bytes = seal.seal(label, &other.bytes).0.to_vec();
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    let second = cluster.machine();
    source.assert_read(&second).await;
    assert_eq!(second.status().rejected, 1, "{attack:?}");
    assert_eq!(source.requests(), 2, "{attack:?}");
    second.flush(FLUSH).await;
    let third = cluster.machine();
    source.assert_read(&third).await;
    assert_eq!(source.requests(), 2, "it was repaired: {attack:?}");
}
