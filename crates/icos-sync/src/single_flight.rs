//! Single flight: concurrent callers that want the same result share one
//! computation.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use crate::{Mutex, spawn};

/// A computation that is running. `None` if it panicked.
type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// The running computations, by key.
///
/// Each runs as a task of its own and completes even if all its callers are
/// cancelled, so a computation must have a deadline.
#[derive(Debug)]
pub struct SingleFlight<K, V> {
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the result of the computation for `key`: of the one that is
    /// running, or else of the one that `start` creates.
    ///
    /// # Panics
    ///
    /// If the computation panics.
    pub async fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> V
    where
        F: Future<Output = V> + Send + 'static,
    {
        let flight = {
            let mut running = self.running.lock();
            if let Some(flight) = running.get(&key) {
                flight.clone()
            } else {
                let (work, own_list, own_key) = (start(), Arc::clone(&self.running), key.clone());
                let task = spawn(async move {
                    let result = work.await;
                    own_list.lock().remove(&own_key);
                    result
                });
                let flight: Flight<V> = task.map(Result::ok).boxed().shared();
                running.insert(key.clone(), flight.clone());
                flight
            }
        };
        if let Some(value) = flight.clone().await {
            return value;
        }
        // The task ended without removing itself: it panicked, or the runtime is
        // shutting down. Remove it, so that the next caller does not join it;
        // but another caller may have started a new one already.
        let mut running = self.running.lock();
        if running.get(&key).is_some_and(|now| now.ptr_eq(&flight)) {
            running.remove(&key);
        }
        drop(running);
        panic!("the computation shared by single flight panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::{block_on, check, thread, yield_now};

    /// Counts computations, and how many run at the same time.
    #[derive(Default)]
    struct Counted {
        flights: SingleFlight<u8, usize>,
        started: AtomicUsize,
        flying: AtomicUsize,
        most_at_once: AtomicUsize,
    }

    impl Counted {
        /// Returns the number of the computation whose result this call gets,
        /// counted from 1. The computation panics if `fails` returns true.
        async fn join(self: &Arc<Self>, fails: impl Fn(usize) -> bool + Send + 'static) -> usize {
            let counted = Arc::clone(self);
            let fly = || async move {
                let flying = counted.flying.fetch_add(1, Ordering::Relaxed) + 1;
                counted.most_at_once.fetch_max(flying, Ordering::Relaxed);
                let number = counted.started.fetch_add(1, Ordering::Relaxed) + 1;
                yield_now().await;
                counted.flying.fetch_sub(1, Ordering::Relaxed);
                assert!(!fails(number), "expected by the test");
                number
            };
            self.flights.join(7, fly).await
        }

        /// Asserts that one computation ran at a time and that none is left.
        fn assert_all_completed(&self) {
            assert_eq!(self.most_at_once.load(Ordering::Relaxed), 1);
            assert_eq!(self.flights.running.lock().len(), 0);
        }
    }

    #[test]
    fn concurrent_callers_run_one_computation_at_a_time() {
        check(|| {
            let counted = Arc::new(Counted::default());
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || {
                        let first = block_on(counted.join(|_| false));
                        // The first has completed, so this call gets a later one.
                        let next = block_on(counted.join(|_| false));
                        assert!(next > first, "{next} after {first}");
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            counted.assert_all_completed();
        });
    }

    #[test]
    fn computation_completes_when_a_caller_is_cancelled() {
        check(|| {
            let counted = Arc::new(Counted::default());
            let cancelled = Arc::clone(&counted);
            let first = thread::spawn(move || {
                let _ = block_on(async { cancelled.join(|_| false).now_or_never() });
            });
            let waiting = Arc::clone(&counted);
            let second = thread::spawn(move || block_on(waiting.join(|_| false)));
            first.join().unwrap();
            assert!((1..=2).contains(&second.join().unwrap()));
            let next = block_on(counted.join(|_| false));
            assert_eq!(next, counted.started.load(Ordering::Relaxed));
            counted.assert_all_completed();
        });
    }

    /// Regression: the second caller to see that the first computation had
    /// panicked removed the second computation from the list, and a third
    /// started beside it.
    #[test]
    fn panic_of_a_computation_reaches_its_own_callers_only() {
        check(|| {
            let counted = Arc::new(Counted::default());
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || {
                        let join = || block_on(counted.join(|number| number == 1));
                        for _ in 0..2 {
                            let joined = std::panic::catch_unwind(AssertUnwindSafe(join));
                            if let Ok(number) = joined {
                                assert!(number > 1);
                            }
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            counted.assert_all_completed();
        });
    }

    #[tokio::test]
    async fn fifty_callers_share_one_computation_and_a_later_call_starts_another() {
        let flights = Arc::new(SingleFlight::default());
        let started = Arc::new(AtomicUsize::new(0));
        let fly = |flights: Arc<SingleFlight<u8, usize>>, started: Arc<AtomicUsize>| async move {
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
    async fn computation_completes_after_its_first_caller_is_cancelled() {
        let flights: Arc<SingleFlight<u8, u8>> = Arc::default();
        let work = || async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            9
        };
        let first = tokio::time::timeout(Duration::from_millis(1), flights.join(1, work)).await;
        assert!(first.is_err());
        assert_eq!(flights.join(1, || async { 0 }).await, 9);
    }
}
