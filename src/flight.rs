//! Single flight: many who want the same thing at once cause one piece of
//! work and share its result.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// The flights under way, by what they fetch.
///
/// A flight runs as a task of its own: it lands even if everyone who waited
/// for it has gone. What it does must therefore have a deadline.
#[derive(Debug)]
pub(crate) struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The result of the flight for `key`: of the one under way, or else of
    /// the one that `start` begins.
    ///
    /// # Panics
    ///
    /// If the flight itself panics.
    pub(crate) async fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = {
            let mut under_way = lock(&self.under_way);
            if let Some(flight) = under_way.get(&key) {
                flight.clone()
            } else {
                let (work, done, landed) = (start(), Arc::clone(&self.under_way), key.clone());
                let task = tokio::spawn(async move {
                    let result = work.await;
                    lock(&done).remove(&landed);
                    result
                });
                let flight: Flight<V> = task.map(Result::ok).boxed().shared();
                under_way.insert(key.clone(), flight.clone());
                flight
            }
        };
        if let Some(value) = flight.await {
            return value;
        }
        // The task ended without clearing up: it panicked, or the runtime is
        // shutting down. The next caller must not join it.
        lock(&self.under_way).remove(&key);
        panic!("a shared piece of work did not finish");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn fifty_callers_cause_one_flight_and_the_next_a_second() {
        let flights = Arc::new(Flights::default());
        let started = Arc::new(AtomicUsize::new(0));
        let fly = |flights: Arc<Flights<u8, usize>>, started: Arc<AtomicUsize>| async move {
            flights
                .join(7, || async move {
                    let number = started.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    number
                })
                .await
        };
        let callers: Vec<_> = (0..50)
            .map(|_| tokio::spawn(fly(flights.clone(), started.clone())))
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), 0);
        }
        assert_eq!(fly(flights, started).await, 1);
    }

    #[tokio::test]
    async fn a_flight_lands_though_its_first_caller_left() {
        let flights: Arc<Flights<u8, u8>> = Arc::default();
        let work = || async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            9
        };
        let first = tokio::time::timeout(Duration::from_millis(1), flights.join(1, work)).await;
        assert!(first.is_err());
        assert_eq!(flights.join(1, || async { 0 }).await, 9);
    }
}
