//! Single flight: many who want the same thing at once cause one piece of
//! work and share its result.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

use crate::sync::{Mutex, spawn};

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
            let mut under_way = self.under_way.lock();
            if let Some(flight) = under_way.get(&key) {
                flight.clone()
            } else {
                let (work, done, landed) = (start(), Arc::clone(&self.under_way), key.clone());
                let task = spawn(async move {
                    let result = work.await;
                    done.lock().remove(&landed);
                    result
                });
                let flight: Flight<V> = task.map(Result::ok).boxed().shared();
                under_way.insert(key.clone(), flight.clone());
                flight
            }
        };
        if let Some(value) = flight.clone().await {
            return value;
        }
        // The task ended without clearing up: it panicked, or the runtime is
        // shutting down. The next caller must not join it; but one may have
        // begun another already.
        let mut under_way = self.under_way.lock();
        if under_way.get(&key).is_some_and(|now| now.ptr_eq(&flight)) {
            under_way.remove(&key);
        }
        drop(under_way);
        panic!("a shared piece of work did not finish");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::sync::{block_on, check, thread};

    /// Counts flights, and how many there are at once.
    #[derive(Default)]
    struct Counted {
        flights: Flights<u8, usize>,
        begun: AtomicUsize,
        flying: AtomicUsize,
        at_once: AtomicUsize,
    }

    impl Counted {
        /// The number of the flight that this call is served by, the first
        /// being 1; it fails if `fails` says so.
        async fn join(self: &Arc<Self>, fails: impl Fn(usize) -> bool + Send + 'static) -> usize {
            let counted = Arc::clone(self);
            let fly = || async move {
                let flying = counted.flying.fetch_add(1, Ordering::Relaxed) + 1;
                counted.at_once.fetch_max(flying, Ordering::Relaxed);
                let number = counted.begun.fetch_add(1, Ordering::Relaxed) + 1;
                crate::sync::give_way().await;
                counted.flying.fetch_sub(1, Ordering::Relaxed);
                assert!(!fails(number), "as it should");
                number
            };
            self.flights.join(7, fly).await
        }

        /// There was one at a time, and none is on the list any more.
        fn assert_landed(&self) {
            assert_eq!(self.at_once.load(Ordering::Relaxed), 1);
            assert_eq!(self.flights.under_way.lock().len(), 0);
        }
    }

    #[test]
    fn in_whatever_order_callers_come_there_is_one_flight_at_a_time() {
        check(|| {
            let counted = Arc::new(Counted::default());
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || {
                        let first = block_on(counted.join(|_| false));
                        // Had it not ended, there would be none to wait for.
                        let next = block_on(counted.join(|_| false));
                        assert!(next > first, "{next} after {first}");
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            counted.assert_landed();
        });
    }

    #[test]
    fn whoever_leaves_the_flight_lands_and_the_next_can_begin() {
        check(|| {
            let counted = Arc::new(Counted::default());
            let leave = Arc::clone(&counted);
            let left = thread::spawn(move || {
                let _ = block_on(async { leave.join(|_| false).now_or_never() });
            });
            let stay = Arc::clone(&counted);
            let stayed = thread::spawn(move || block_on(stay.join(|_| false)));
            left.join().unwrap();
            assert!((1..=2).contains(&stayed.join().unwrap()));
            let next = block_on(counted.join(|_| false));
            assert_eq!(next, counted.begun.load(Ordering::Relaxed));
            counted.assert_landed();
        });
    }

    /// The second to find the first flight failed once took the second flight
    /// off the list, and a third began beside it.
    #[test]
    fn a_flight_that_fails_fails_for_its_own_callers_alone() {
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
            counted.assert_landed();
        });
    }

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
