//! Memory for buffers: one bound over all of them, which many readers wait
//! for rather than let it grow.
//!
//! The bound is split so that no one can wait for what waits for them. What is
//! *kept* (drawn text, and bytes that the disk did not take) never waits: the
//! oldest goes. *Streams* of the network may hold their share for long, but
//! wait for nothing that answers hold; and *answers* hold theirs only while
//! they are read, drawn and sent, never across a wait. So answers keep flowing
//! whatever becomes of the streams. Large *pieces* of streams are for speed
//! alone: where there is no memory for one, small ones do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is held of a body that is not taken as fast as it comes: the network
/// library's buffer grows to some 400 KiB, and at most 8 pieces of 128 KiB wait
/// to be written and hashed.
pub const STREAM: u64 = 3 << 19;
/// A large piece of a stream: what the kernel asks for at once, if the mount may
/// say so.
pub const PIECE: usize = 1 << 20;
/// How long to wait for the memory of an answer: others hold it for moments.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long to wait for the memory of a stream: others may have much to
/// fetch over a slow line.
const LONG_PATIENCE: Duration = Duration::from_mins(10);
/// Permits are of this many bytes each.
const UNIT: u64 = 4 << 10;

/// The bound. Cheap to clone: clones are the same memory.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    total: u64,
    answers: Pool,
    streams: Pool,
    pieces: Pool,
    spare: Arc<Spare>,
}

/// Buffers of pieces that are not in use just now: to have them from the
/// allocator again costs page faults, 3 % of a first read.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

/// A buffer of a piece, and the memory for it.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    reservation: Reservation,
    spare: Arc<Spare>,
}

/// Memory taken; given back when dropped.
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
    /// How long it was waited for.
    pub waited: Duration,
}

#[derive(Clone, Debug)]
struct Pool {
    units: Arc<Semaphore>,
    size: u32,
}

impl MemoryBudget {
    /// At most `total` bytes, though never too few to answer one read.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self {
            total,
            // Pieces become answers.
            answers: Pool::new(total / 4 - total / 16),
            streams: Pool::new((total / 8).max(2 * STREAM)),
            pieces: Pool::new(total / 16),
            spare: Arc::default(),
        }
    }

    /// How many bytes the cache may keep for want of a disk.
    #[must_use]
    pub fn block_limit(&self) -> u64 {
        self.total / 2
    }

    /// How many bytes of drawn text may be kept.
    #[must_use]
    pub fn text_limit(&self) -> u64 {
        self.total / 8
    }

    /// Memory for `bytes` of an answer, after those who asked before. Whoever
    /// holds it must not wait for anything but the disk and the processor.
    pub async fn reserve_reply(&self, bytes: u64) -> Result<Reservation, NoMemory> {
        self.answers.take(bytes, PATIENCE).await
    }

    /// Memory for the buffers of a stream.
    pub async fn reserve_stream(&self) -> Result<Reservation, NoMemory> {
        self.streams.take(STREAM, LONG_PATIENCE).await
    }

    /// An empty buffer for a piece of a stream, of [`PIECE`] bytes, if there is
    /// memory for it now.
    #[must_use]
    pub fn piece_buffer(&self) -> Option<Buffer> {
        let reservation = self.pieces.take_now(PIECE as u64)?;
        let unused = self.spare.buffers().pop();
        Some(Buffer {
            bytes: unused.unwrap_or_else(|| Vec::with_capacity(PIECE)),
            reservation,
            spare: Arc::clone(&self.spare),
        })
    }

    /// Lets go of what nobody uses just now.
    pub fn trim(&self) {
        self.spare.buffers().clear();
    }
}

impl Spare {
    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::len_without_is_empty)] // Nobody needs to know.
impl Buffer {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its bytes, as many as it has; more than [`PIECE`] would be uncounted.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes, for all who need them; once the last clone of them is gone,
    /// the buffer is for others.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        struct Held(Option<Buffer>);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                self.0.as_ref().map_or(&[], |buffer| &buffer.bytes)
            }
        }
        impl Drop for Held {
            fn drop(&mut self) {
                if let Some(Buffer {
                    mut bytes,
                    reservation,
                    spare,
                }) = self.0.take()
                {
                    bytes.clear();
                    spare.buffers().push(bytes);
                    drop(reservation);
                }
            }
        }
        Bytes::from_owner(Held(Some(self)))
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

    /// What is more than all there is takes all there is: alone, it may pass.
    async fn take(&self, bytes: u64, patience: Duration) -> Result<Reservation, NoMemory> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let turn = Arc::clone(&self.units).acquire_many_owned(wanted.min(self.size));
        match tokio::time::timeout(patience, turn).await {
            Ok(Ok(permit)) => Ok(Reservation { _permit: permit }),
            // Late; nothing ever closes the semaphore.
            Ok(Err(_)) | Err(_) => Err(NoMemory { waited: patience }),
        }
    }

    /// None if there is not as much, now or ever.
    fn take_now(&self, bytes: u64) -> Option<Reservation> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(wanted);
        permit.ok().map(|permit| Reservation { _permit: permit })
    }
}

impl Reservation {
    /// `bytes`, for which this memory was taken: given back once the last
    /// clone of them is gone.
    #[must_use]
    pub fn attach(self, bytes: Vec<u8>) -> Bytes {
        struct Held {
            bytes: Vec<u8>,
            _reservation: Reservation,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        Bytes::from_owner(Held {
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

    /// In an order that nobody's patience ends: who waits for what waits for
    /// them would wait for ever.
    #[test]
    fn streams_and_answers_come_to_their_end_in_whatever_order_they_wait() {
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
            assert_eq!(memory.answers.units.available_permits(), 48);
        });
    }

    #[test]
    fn a_buffer_is_used_again_once_its_last_bytes_are_gone() {
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
        assert_eq!(memory.spare.buffers().len(), 2);
        memory.trim();
        assert_eq!(memory.spare.buffers().len(), 0);
    }

    #[tokio::test]
    async fn bytes_hold_their_memory_until_the_last_of_them_is_gone() {
        let memory = MemoryBudget::new(1 << 20);
        let reservation = memory.reserve_reply(192 << 10).await.unwrap();
        let bytes = reservation.attach(vec![7; 10]);
        let part = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(memory.answers.units.available_permits(), 0);
        assert_eq!(part, vec![7; 2]);
        drop(part);
        memory.reserve_reply(192 << 10).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_memory_in_turn_or_is_told_that_there_is_none() {
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
            .expect("streams have their own");
        drop(all);
        waiting.await.unwrap().unwrap();

        let _all = memory.reserve_reply(1 << 30).await.unwrap();
        memory.reserve_reply(1).await.unwrap_err();
    }
}
