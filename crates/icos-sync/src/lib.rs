//! Locks, counters, tasks and single flight whose thread schedule a test can
//! choose.
//!
//! In the program these are the types of `std` and tokio. With the feature
//! `shuttle`, threads that run within `check` run one at a time, and
//! [shuttle](https://docs.rs/shuttle) chooses at each lock and counter which
//! thread continues. So a test explores thread schedules of the code that is
//! shipped, and outside `check` everything behaves as without the feature.
//!
//! Effects of memory orderings weaker than sequential consistency are not
//! explored: no counter here guards other memory.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError, TryLockError, atomic};

mod single_flight;
mod tasks;

#[cfg(not(any(test, feature = "shuttle")))]
#[path = "schedule/system.rs"]
mod schedule;
#[cfg(any(test, feature = "shuttle"))]
#[path = "schedule/shuttle.rs"]
mod schedule;

#[cfg(any(test, feature = "shuttle"))]
pub use schedule::{block_on, check, thread, yield_now};
pub use schedule::{schedule_point, sleep, spawn};
pub use single_flight::SingleFlight;
pub use tasks::{BlockingTask, run_blocking, spawn_blocking, spawn_task};

use schedule::{ScheduledGuard, ScheduledLock};

/// A mutual exclusion lock without poisoning.
///
/// A panic while the lock is held leaves the value as it was at that moment, so
/// code under the lock must not panic between two updates that belong together.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    value: std::sync::Mutex<T>,
    schedule: ScheduledLock,
}

/// The guard of a [`Mutex`]: unlocks it when dropped.
#[derive(Debug)]
pub struct Locked<'a, T> {
    // Fields drop in this order: the value is unlocked before the schedule.
    value: MutexGuard<'a, T>,
    _schedule: ScheduledGuard<'a>,
}

impl<T> Mutex<T> {
    /// Creates an unlocked mutex.
    pub fn new(value: T) -> Self {
        Self {
            value: std::sync::Mutex::new(value),
            schedule: ScheduledLock::default(),
        }
    }

    /// Locks it, waiting until no other thread holds it.
    pub fn lock(&self) -> Locked<'_, T> {
        let schedule = self.schedule.lock();
        Locked {
            value: self.value.lock().unwrap_or_else(PoisonError::into_inner),
            _schedule: schedule,
        }
    }

    /// Locks it, or returns `None` at once if another thread holds it.
    pub fn try_lock(&self) -> Option<Locked<'_, T>> {
        let schedule = self.schedule.try_lock()?;
        let value = match self.value.try_lock() {
            Ok(value) => value,
            Err(TryLockError::Poisoned(value)) => value.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Locked {
            value,
            _schedule: schedule,
        })
    }

    /// Returns the value without locking: the exclusive reference proves that
    /// no other thread has access.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// An atomic counter; use it like [`std::sync::atomic::AtomicU64`].
#[derive(Debug)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    /// Creates a counter with this value.
    #[must_use]
    pub fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }
}

impl Deref for AtomicU64 {
    type Target = atomic::AtomicU64;

    fn deref(&self) -> &atomic::AtomicU64 {
        schedule_point();
        &self.0
    }
}
