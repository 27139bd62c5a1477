//! What is kept of the files that were used of late, and let go a while after:
//! the least recently used first where there are too many.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// States, by what they are of.
#[derive(Debug)]
pub(super) struct IdleLru<K: Eq + Hash, V>(Mutex<LruCache<K, Kept<V>>>);

#[derive(Debug)]
struct Kept<V> {
    state: V,
    used: Instant,
}

impl<V> Kept<V> {
    fn new(state: V) -> Self {
        let used = Instant::now();
        Self { state, used }
    }
}

/// Whether a state may be let go once it has rested.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IdleDecision {
    /// Yes.
    Release,
    /// Not now, but perhaps in a while, by itself.
    ReleaseLater,
    /// Not before someone has used it again.
    Keep,
}

impl<K: Clone + Eq + Hash, V: Clone> IdleLru<K, V> {
    /// Keeps at most so many.
    pub(super) fn new(bound: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(bound)))
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut states = self.states();
        let kept = states.get_mut(key)?;
        kept.used = Instant::now();
        Some(kept.state.clone())
    }

    /// Keeps `state`, unless another was first: then theirs is the one.
    pub(super) fn get_or_insert(&self, key: K, state: V) -> V {
        let mut states = self.states();
        if let Some(first) = states.get(&key) {
            return first.state.clone();
        }
        states.put(key, Kept::new(state.clone()));
        state
    }

    /// Keeps `state` in the place of what was there.
    pub(super) fn replace(&self, key: K, state: V) {
        self.states().put(key, Kept::new(state));
    }

    /// Lets go of what was not used for `idle` and `may` go. Says what it was,
    /// and whether there is more that will have rested long enough in a while.
    pub(super) fn release_idle(
        &self,
        idle: Duration,
        may: impl Fn(&K, &V) -> IdleDecision,
    ) -> (Vec<(K, V)>, bool) {
        let (mut rested, mut more) = (Vec::new(), false);
        let mut states = self.states();
        for (key, kept) in states.iter() {
            match may(key, &kept.state) {
                IdleDecision::Release if kept.used.elapsed() >= idle => rested.push(key.clone()),
                IdleDecision::Release | IdleDecision::ReleaseLater => more = true,
                IdleDecision::Keep => {}
            }
        }
        let pop = |key| {
            let kept = states.pop(&key)?;
            Some((key, kept.state))
        };
        (rested.into_iter().filter_map(pop).collect(), more)
    }

    /// What was not used for `idle`.
    pub(super) fn idle_for(&self, idle: Duration) -> Vec<(K, V)> {
        let states = self.states();
        let unused = states
            .iter()
            .filter(|(_, kept)| kept.used.elapsed() >= idle);
        unused
            .map(|(key, kept)| (key.clone(), kept.state.clone()))
            .collect()
    }

    fn states(&self) -> MutexGuard<'_, LruCache<K, Kept<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rested_goes_unless_it_must_not() {
        let resting = IdleLru::new(NonZeroUsize::MIN.saturating_add(9));
        for (key, may) in [
            (0, IdleDecision::Release),
            (1, IdleDecision::ReleaseLater),
            (2, IdleDecision::Keep),
        ] {
            resting.get_or_insert(key, may);
        }
        let hour = Duration::from_hours(1);
        assert_eq!(resting.release_idle(hour, |_, &may| may), (vec![], true));
        let rested = resting.release_idle(Duration::ZERO, |_, &may| may);
        assert_eq!(rested, (vec![(0, IdleDecision::Release)], true));
        assert!(resting.get(&0).is_none() && resting.get(&2).is_some());
        resting.replace(1, IdleDecision::Keep);
        assert_eq!(
            resting.release_idle(Duration::ZERO, |_, &may| may),
            (vec![], false)
        );
    }
}
