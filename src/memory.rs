//! The memory budget: one limit for all buffers. Readers wait for memory instead
//! of exceeding it.
//!
//! The limit is split into parts so that waits cannot form a circle. *Caches*
//! (rendered text, landing pages, and blocks that the disk does not accept) never wait: they
//! evict their oldest content. Network *streams* may hold their reservations for a
//! long time, but never wait for memory of replies. *Replies* hold theirs only
//! while they are read, rendered and sent, and never wait for anything but the
//! disk and the processor meanwhile. So replies make progress whatever the streams
//! do. Large *pieces* of streams only serve speed: without memory for one, small
//! pieces are used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

mod sized_lru;

pub use sized_lru::SizedLru;

/// The memory of one stream in bytes, if its body arrives faster than it is
/// written: the HTTP library buffers some 400 KiB, and at most 8 pieces of 128 KiB
/// wait to be written and hashed.
pub const STREAM: u64 = 3 << 19;
/// The length of a large piece of a stream in bytes: the kernel's largest read
/// where the mount may raise it.
pub const PIECE: usize = 1 << 20;
/// How long to wait for the memory of a reply: others hold theirs for moments.
const REPLY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long to wait for the memory of a stream: others may download much over a
/// slow connection.
const STREAM_TIMEOUT: Duration = Duration::from_mins(10);
/// Bytes of one semaphore permit.
const UNIT: u64 = 4 << 10;

/// The limit and its parts. Cheap to clone: clones share one budget.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    total: u64,
    replies: Pool,
    streams: Pool,
    pieces: Pool,
    unused: Arc<UnusedBuffers>,
    /// The number of streams that wait for memory.
    waiting_streams: watch::Sender<u32>,
}

/// Buffers of pieces for reuse: new ones from the allocator cost page faults, 3 %
/// of a first read.
#[derive(Debug, Default)]
struct UnusedBuffers(Mutex<Vec<Vec<u8>>>);

/// A buffer for a piece, with its reservation.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    _reservation: Reservation,
    unused: Arc<UnusedBuffers>,
}

/// Reserved memory, released on drop.
#[derive(Debug)]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

/// No memory became free in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "no memory for buffers became free within {} s; raise --memory, or read less at once",
    waited.as_secs()
)]
pub struct NoMemory {
    /// How long the caller waited.
    pub waited: Duration,
}

/// Counts as one of [`MemoryBudget::waiting_streams`] until dropped.
struct WaitingStream<'a>(&'a MemoryBudget);

/// A part of the budget.
#[derive(Clone, Debug)]
struct Pool {
    units: Arc<Semaphore>,
    size: u32,
}

impl MemoryBudget {
    /// A budget of `total` bytes, but enough for one read in any case.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self {
            total,
            // Pieces become replies.
            replies: Pool::new(total / 4 - total / 16),
            streams: Pool::new((total / 8).max(2 * STREAM)),
            pieces: Pool::new(total / 16),
            unused: Arc::default(),
            waiting_streams: watch::Sender::new(0),
        }
    }

    /// How many bytes of blocks the cache may store in memory.
    #[must_use]
    pub fn block_limit(&self) -> u64 {
        self.total / 2
    }

    /// How many bytes of landing pages may be cached, in addition to the limit.
    #[must_use]
    pub fn page_limit(&self) -> u64 {
        self.total / 16
    }

    /// How many bytes of rendered text may be cached.
    #[must_use]
    pub fn text_limit(&self) -> u64 {
        self.total / 8
    }

    /// Reserves memory for a reply of `bytes`, first come, first served. The caller
    /// must not wait for anything but the disk and the processor while it holds the
    /// reservation.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] after one minute.
    pub async fn reserve_reply(&self, bytes: u64) -> Result<Reservation, NoMemory> {
        self.replies.take(bytes, REPLY_TIMEOUT).await
    }

    /// Reserves memory for the buffers of a stream.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] after ten minutes.
    pub async fn reserve_stream(&self) -> Result<Reservation, NoMemory> {
        if let Some(reservation) = self.streams.take_now(STREAM) {
            return Ok(reservation);
        }
        let _waiting = WaitingStream::new(self);
        self.streams.take(STREAM, STREAM_TIMEOUT).await
    }

    /// Returns when another stream waits for memory: a paused stream should end
    /// then.
    pub async fn stream_wanted(&self) {
        let mut waiting = self.waiting_streams.subscribe();
        // Never fails: `self` holds the sender.
        let _ = waiting.wait_for(|&waiting| waiting > 0).await;
    }

    /// An empty buffer of [`PIECE`] bytes for a piece of a stream, if memory for it
    /// is free now.
    #[must_use]
    pub fn piece_buffer(&self) -> Option<Buffer> {
        let reservation = self.pieces.take_now(PIECE as u64)?;
        let reused = self.unused.buffers().pop();
        Some(Buffer {
            bytes: reused.unwrap_or_else(|| Vec::with_capacity(PIECE)),
            _reservation: reservation,
            unused: Arc::clone(&self.unused),
        })
    }

    /// Frees the unused buffers.
    pub fn trim(&self) {
        self.unused.buffers().clear();
    }
}

impl<'a> WaitingStream<'a> {
    fn new(budget: &'a MemoryBudget) -> Self {
        budget.waiting_streams.send_modify(|waiting| *waiting += 1);
        Self(budget)
    }
}

impl Drop for WaitingStream<'_> {
    fn drop(&mut self) {
        (self.0.waiting_streams).send_modify(|waiting| *waiting -= 1);
    }
}

impl UnusedBuffers {
    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::len_without_is_empty)] // No caller needs `is_empty`.
impl Buffer {
    /// The length of its content in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its content. Bytes beyond [`PIECE`] would exceed the reservation.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Converts the content to shared bytes; after the last clone of them is
    /// dropped, the buffer is reused.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.unused.buffers().push(bytes);
    }
}

impl Pool {
    fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            units: Arc::new(Semaphore::new(units as usize)),
            size: units,
        }
    }

    /// Waits for `bytes`; more than the pool has means the complete pool.
    async fn take(&self, bytes: u64, timeout: Duration) -> Result<Reservation, NoMemory> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.units).acquire_many_owned(wanted.min(self.size));
        match tokio::time::timeout(timeout, permits).await {
            Ok(Ok(permit)) => Ok(Reservation { _permit: permit }),
            // The time is over; the semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(NoMemory { waited: timeout }),
        }
    }

    /// `None` if the pool does not have `bytes` free now.
    fn take_now(&self, bytes: u64) -> Option<Reservation> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(wanted);
        permit.ok().map(|permit| Reservation { _permit: permit })
    }
}

impl Reservation {
    /// Attaches the reservation to the `bytes` that it was made for: it is released
    /// after the last clone of them is dropped.
    #[must_use]
    pub fn attach(self, bytes: Vec<u8>) -> Bytes {
        struct ReservedBytes {
            bytes: Vec<u8>,
            _reservation: Reservation,
        }
        impl AsRef<[u8]> for ReservedBytes {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        Bytes::from_owner(ReservedBytes {
            bytes,
            _reservation: self,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use icos_sync::{block_on, check, thread};

    /// No timeout ends a wait in these schedules: a deadlock would last for ever.
    #[test]
    fn streams_and_replies_finish_in_any_order_of_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _timers = runtime.enter();
        check(|| {
            let memory = MemoryBudget::new(1 << 20);
            let taken = Arc::new(AtomicU64::new(0));
            let threads = [100 << 10, 200 << 10, 1 << 30].map(|bytes: u64| {
                let (memory, taken) = (memory.clone(), Arc::clone(&taken));
                thread::spawn(move || {
                    let _stream = block_on(memory.reserve_stream()).unwrap();
                    let reservation = block_on(memory.reserve_reply(bytes)).unwrap();
                    let mine = bytes.min(192 << 10);
                    let now = taken.fetch_add(mine, Ordering::Relaxed) + mine;
                    assert!(now <= 192 << 10, "{now}");
                    thread::yield_now();
                    taken.fetch_sub(mine, Ordering::Relaxed);
                    drop(reservation.attach(vec![7]));
                })
            });
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(memory.replies.units.available_permits(), 48);
        });
    }

    #[test]
    fn buffer_is_reused_after_its_last_bytes_are_dropped() {
        let memory = MemoryBudget::new(32 << 20);
        let mut buffer = memory.piece_buffer().unwrap();
        buffer.bytes().extend_from_slice(b"piece");
        let bytes = buffer.freeze();
        let (part, at) = (bytes.slice(1..3), bytes.as_ptr());
        drop(bytes);
        let other = memory.piece_buffer().unwrap();
        assert!(memory.piece_buffer().is_none(), "there is memory for two");
        assert_eq!(part, b"ie"[..]);
        drop(part);
        let mut again = memory.piece_buffer().unwrap();
        assert_eq!(again.bytes().as_ptr(), at);
        assert!(again.bytes().is_empty());
        drop((again.freeze(), other.freeze()));
        assert_eq!(memory.unused.buffers().len(), 2);
        memory.trim();
        assert_eq!(memory.unused.buffers().len(), 0);
    }

    #[tokio::test]
    async fn reservation_is_released_after_the_last_bytes_are_dropped() {
        let memory = MemoryBudget::new(1 << 20);
        let reservation = memory.reserve_reply(192 << 10).await.unwrap();
        let bytes = reservation.attach(vec![7; 10]);
        let part = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(memory.replies.units.available_permits(), 0);
        assert_eq!(part, vec![7; 2]);
        drop(part);
        memory.reserve_reply(192 << 10).await.unwrap();
    }

    /// With little memory, two paused downloads made all others wait for 20 s.
    #[tokio::test(start_paused = true)]
    async fn paused_stream_is_told_that_another_one_waits_for_its_memory() {
        let memory = MemoryBudget::new(1 << 20);
        let _first = memory.reserve_stream().await.unwrap();
        let paused = memory.reserve_stream().await.unwrap();
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.reserve_stream().await }
        });
        memory.stream_wanted().await;
        drop(paused);
        let reservation = waiting.await.unwrap().unwrap();
        let second = Duration::from_secs(1);
        let wanted = tokio::time::timeout(second, memory.stream_wanted()).await;
        assert!(wanted.is_err(), "no stream waits any more");
        drop(reservation);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_reply_gets_memory_when_freed_or_fails_after_the_timeout() {
        let memory = MemoryBudget::new(1 << 20);
        let all = memory.reserve_reply(1 << 30).await.unwrap();
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.reserve_reply(1).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        memory
            .reserve_stream()
            .await
            .expect("streams have their own memory");
        drop(all);
        waiting.await.unwrap().unwrap();

        let _all = memory.reserve_reply(1 << 30).await.unwrap();
        memory.reserve_reply(1).await.unwrap_err();
    }
}
