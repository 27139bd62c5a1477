//! The state of files that were used lately. It is released after a while without
//! use, and the least recently used first if there is too much of it.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// A map of a limited number of states that knows when each was used last.
#[derive(Debug)]
pub(super) struct IdleLru<K: Eq + Hash, V>(Mutex<LruCache<K, UsedState<V>>>);

#[derive(Debug)]
struct UsedState<V> {
    state: V,
    last_used: Instant,
}

impl<V> UsedState<V> {
    fn new(state: V) -> Self {
        Self {
            state,
            last_used: Instant::now(),
        }
    }
}

/// Whether an idle state is released.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IdleDecision {
    /// It is released.
    Release,
    /// It is not released now, but may be later without having been used again.
    ReleaseLater,
    /// It is not released before it has been used again.
    Keep,
}

impl<K: Clone + Eq + Hash, V: Clone> IdleLru<K, V> {
    /// Retains at most `limit` states.
    pub(super) fn new(limit: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(limit)))
    }

    /// Returns the state of `key`, and notes that it is used.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut states = self.states();
        let used = states.get_mut(key)?;
        used.last_used = Instant::now();
        Some(used.state.clone())
    }

    /// Returns the state of `key`, which is `state` if there was none.
    pub(super) fn get_or_insert(&self, key: K, state: V) -> V {
        let mut states = self.states();
        if let Some(first) = states.get(&key) {
            return first.state.clone();
        }
        states.put(key, UsedState::new(state.clone()));
        state
    }

    /// Replaces the state of `key`.
    pub(super) fn replace(&self, key: K, state: V) {
        self.states().put(key, UsedState::new(state));
    }

    /// Releases the states that were not used for `idle`, if `decide` allows.
    /// Returns the released states, and whether there are others that will be
    /// released later unless they are used. `decide` runs under the lock.
    pub(super) fn release_idle(
        &self,
        idle: Duration,
        decide: impl Fn(&K, &V) -> IdleDecision,
    ) -> (Vec<(K, V)>, bool) {
        let (mut to_release, mut more) = (Vec::new(), false);
        let mut states = self.states();
        for (key, used) in states.iter() {
            match decide(key, &used.state) {
                IdleDecision::Release if used.last_used.elapsed() >= idle => {
                    to_release.push(key.clone());
                }
                IdleDecision::Release | IdleDecision::ReleaseLater => more = true,
                IdleDecision::Keep => {}
            }
        }
        let pop = |key| {
            let used = states.pop(&key)?;
            Some((key, used.state))
        };
        (to_release.into_iter().filter_map(pop).collect(), more)
    }

    /// Returns the states that were not used for `idle`.
    pub(super) fn idle_for(&self, idle: Duration) -> Vec<(K, V)> {
        let states = self.states();
        let idle_states = states
            .iter()
            .filter(|(_, used)| used.last_used.elapsed() >= idle);
        idle_states
            .map(|(key, used)| (key.clone(), used.state.clone()))
            .collect()
    }

    fn states(&self) -> MutexGuard<'_, LruCache<K, UsedState<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_idle_releases_what_is_idle_and_allowed() {
        let lru = IdleLru::new(NonZeroUsize::MIN.saturating_add(9));
        for (key, decision) in [
            (0, IdleDecision::Release),
            (1, IdleDecision::ReleaseLater),
            (2, IdleDecision::Keep),
        ] {
            lru.get_or_insert(key, decision);
        }
        let release = |idle| lru.release_idle(idle, |_, &decision| decision);
        assert_eq!(release(Duration::from_hours(1)), (vec![], true));
        let released = release(Duration::ZERO);
        assert_eq!(released, (vec![(0, IdleDecision::Release)], true));
        assert!(lru.get(&0).is_none() && lru.get(&2).is_some());
        lru.replace(1, IdleDecision::Keep);
        assert_eq!(release(Duration::ZERO), (vec![], false));
    }
}
