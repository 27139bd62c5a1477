//! What threads share: locks, counters and tasks.
//!
//! These are the standard library's and tokio's, but for one thing: in unit
//! tests, threads that run within [`check`] go one at a time, and at each lock
//! and counter [shuttle](https://docs.rs/shuttle) draws which of them goes on.
//! So the code that is checked is the code that is shipped. Not shown are the
//! effects of memory orderings weaker than the sequential one; no counter here
//! guards other memory.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError, TryLockError, atomic};

#[cfg_attr(test, path = "sync/checked.rs")]
mod turn;

use turn::{Taken, Turn};
#[cfg(test)]
pub(crate) use turn::{block_on, check, give_way, thread};
pub(crate) use turn::{other_threads_may_go_first, sleep, spawn};

/// A lock that never refuses: what panicked while it had it has left things as
/// they should be, for nothing below is half done when it can panic.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    value: std::sync::Mutex<T>,
    turn: Turn,
}

/// What is locked.
#[derive(Debug)]
pub(crate) struct Locked<'a, T> {
    // Given back before the turn.
    value: MutexGuard<'a, T>,
    _turn: Taken<'a>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: std::sync::Mutex::new(value),
            turn: Turn::default(),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_, T> {
        let turn = self.turn.take();
        Locked {
            value: self.value.lock().unwrap_or_else(PoisonError::into_inner),
            _turn: turn,
        }
    }

    /// None if it is locked.
    pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
        let turn = self.turn.try_take()?;
        let value = match self.value.try_lock() {
            Ok(value) => value,
            Err(TryLockError::Poisoned(value)) => value.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Locked { value, _turn: turn })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
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

/// A counter, used as the standard library's.
#[derive(Debug)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }
}

impl Deref for AtomicU64 {
    type Target = atomic::AtomicU64;

    fn deref(&self) -> &atomic::AtomicU64 {
        other_threads_may_go_first();
        &self.0
    }
}
