//! A map that forgets what was used longest ago once its content grows past a number of bytes.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The map. Values are cheap to clone, such as an `Arc`.
pub(crate) struct Cache<K, V> {
    capacity_bytes: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    used_bytes: usize,
    clock: u64,
    /// How often something was invalidated.
    generation: u64,
}

struct Entry<V> {
    value: V,
    size_bytes: usize,
    last_used: u64,
}

/// When a value was about to be read from where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        let inner = Inner { entries: HashMap::new(), used_bytes: 0, clock: 0, generation: 0 };
        Self { capacity_bytes, inner: Mutex::new(inner) }
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut inner = self.inner();
        inner.clock += 1;
        let clock = inner.clock;
        let entry = inner.entries.get_mut(key)?;
        entry.last_used = clock;
        Some(entry.value.clone())
    }

    /// Returns the moment to hand to [`Cache::insert`]; ask before reading what is to be cached.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.inner().generation)
    }

    /// Keeps `value`, unless something was invalidated since `read_at`: it may have been this.
    pub(crate) fn insert(&self, key: K, value: V, size_bytes: usize, read_at: Generation) {
        let mut inner = self.inner();
        if inner.generation != read_at.0 || size_bytes > self.capacity_bytes {
            return;
        }
        inner.clock += 1;
        let last_used = inner.clock;
        inner.used_bytes += size_bytes;
        if let Some(old) = inner.entries.insert(key, Entry { value, size_bytes, last_used }) {
            inner.used_bytes -= old.size_bytes;
        }
        if inner.used_bytes > self.capacity_bytes {
            inner.shrink(self.capacity_bytes / 8 * 7);
        }
    }

    /// Forgets the value of `key`, and every one that is being read at this moment.
    pub(crate) fn invalidate(&self, key: &K) {
        let mut inner = self.inner();
        inner.generation += 1;
        if let Some(old) = inner.entries.remove(key) {
            inner.used_bytes -= old.size_bytes;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone, V> Inner<K, V> {
    fn shrink(&mut self, target_bytes: usize) {
        let mut by_age: Vec<(u64, K)> =
            self.entries.iter().map(|(key, entry)| (entry.last_used, key.clone())).collect();
        by_age.sort_unstable_by_key(|(last_used, _)| *last_used);
        for (_, key) in by_age {
            if self.used_bytes <= target_bytes {
                break;
            }
            if let Some(old) = self.entries.remove(&key) {
                self.used_bytes -= old.size_bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes() {
        let cache = Cache::new(100);
        for key in 0..10 {
            cache.insert(key, key, 10, cache.generation());
        }
        assert_eq!(cache.get(&0), Some(0));
        cache.insert(10, 10, 10, cache.generation());
        assert_eq!((cache.get(&0), cache.get(&1), cache.get(&10)), (Some(0), None, Some(10)));
        assert!(cache.inner().used_bytes <= 100);
        cache.insert(11, 11, 101, cache.generation());
        assert_eq!(cache.get(&11), None, "larger than everything");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let cache = Cache::new(100);
        let read_at = cache.generation();
        cache.invalidate(&"a");
        cache.insert("a", 1, 1, read_at);
        assert_eq!(cache.get("a"), None);
        cache.insert("a", 2, 1, cache.generation());
        assert_eq!(cache.get("a"), Some(2));
        cache.invalidate(&"a");
        assert_eq!(cache.get("a"), None);
        assert_eq!(cache.inner().used_bytes, 0);
    }

    #[test]
    fn replacing_does_not_count_twice() {
        let cache = Cache::new(100);
        for _ in 0..50 {
            cache.insert("a", 1, 60, cache.generation());
        }
        assert_eq!((cache.get("a"), cache.inner().used_bytes), (Some(1), 60));
    }
}
