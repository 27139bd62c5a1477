//! A cache that counts the bytes of its entries.

use std::hash::Hash;

use lru::LruCache;

/// What an entry takes in memory besides its bytes.
const ENTRY_OVERHEAD: u64 = 256;

/// A cache of at most so many bytes, from which the least recently used entries
/// are evicted.
#[derive(Debug)]
pub struct SizedLru<K: Eq + Hash, V> {
    /// The values with their bytes.
    entries: LruCache<K, (V, u64)>,
    bytes: u64,
    limit: u64,
}

impl<K: Eq + Hash, V> SizedLru<K, V> {
    /// Creates a cache of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            entries: LruCache::unbounded(),
            bytes: 0,
            limit,
        }
    }

    /// Returns the value of `key`, which counts as used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// Inserts `value`, which takes `bytes`, and evicts others while all take more
    /// than the limit. The new value stays, however long it is: its readers take
    /// it in small parts, and would otherwise download it for each.
    pub fn put(&mut self, key: K, value: V, bytes: u64) {
        let bytes = bytes.saturating_add(ENTRY_OVERHEAD);
        self.bytes = self.bytes.saturating_add(bytes);
        let replaced = self.entries.put(key, (value, bytes));
        self.bytes -= replaced.map_or(0, |(_, bytes)| bytes);
        while self.bytes > self.limit && self.entries.len() > 1 {
            let evicted = self.entries.pop_lru();
            self.bytes -= evicted.map_or(0, |(_, (_, bytes))| bytes);
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_stays_within_its_bytes_but_retains_the_newest_entry() {
        let mut cache = SizedLru::new(10_000);
        for n in 0..100 {
            cache.put(n, (), 1000);
            assert!(cache.bytes <= 10_000);
        }
        assert_eq!(cache.entries.len(), 7);
        assert!(cache.get(&92).is_none() && cache.get(&93).is_some());
        cache.put(99, (), 10);
        assert_eq!(cache.entries.len(), 7);
        cache.put(0, (), 50_000);
        assert_eq!(cache.entries.len(), 1);
        assert!(cache.get(&0).is_some());
        cache.put(1, (), 0);
        assert_eq!((cache.entries.len(), cache.bytes), (1, ENTRY_OVERHEAD));
        cache.clear();
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }
}
