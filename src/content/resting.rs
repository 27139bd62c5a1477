//! What is kept of the files that were used of late, and let go a while after:
//! the least recently used first where there are too many.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// States, by what they are of.
#[derive(Debug)]
pub(super) struct Resting<K: Eq + Hash, V>(Mutex<LruCache<K, Kept<V>>>);

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
pub(super) enum May {
    /// Yes.
    Go,
    /// Not now, but perhaps in a while, by itself.
    GoLater,
    /// Not before someone has used it again.
    Stay,
}

impl<K: Clone + Eq + Hash, V: Clone> Resting<K, V> {
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
    pub(super) fn keep(&self, key: K, state: V) -> V {
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
    pub(super) fn rest(&self, idle: Duration, may: impl Fn(&K, &V) -> May) -> (Vec<(K, V)>, bool) {
        let (mut rested, mut more) = (Vec::new(), false);
        let mut states = self.states();
        for (key, kept) in states.iter() {
            match may(key, &kept.state) {
                May::Go if kept.used.elapsed() >= idle => rested.push(key.clone()),
                May::Go | May::GoLater => more = true,
                May::Stay => {}
            }
        }
        let pop = |key| {
            let kept = states.pop(&key)?;
            Some((key, kept.state))
        };
        (rested.into_iter().filter_map(pop).collect(), more)
    }

    /// What was not used for `idle`.
    pub(super) fn unused_for(&self, idle: Duration) -> Vec<(K, V)> {
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
        let resting = Resting::new(NonZeroUsize::MIN.saturating_add(9));
        for (key, may) in [(0, May::Go), (1, May::GoLater), (2, May::Stay)] {
            resting.keep(key, may);
        }
        let hour = Duration::from_hours(1);
        assert_eq!(resting.rest(hour, |_, &may| may), (vec![], true));
        let rested = resting.rest(Duration::ZERO, |_, &may| may);
        assert_eq!(rested, (vec![(0, May::Go)], true));
        assert!(resting.get(&0).is_none() && resting.get(&2).is_some());
        resting.replace(1, May::Stay);
        assert_eq!(resting.rest(Duration::ZERO, |_, &may| may), (vec![], false));
    }
}
