//! Whose turn it is, shuttle draws, for threads within [`check`]; other tests'
//! threads run as they do in the program.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

pub(crate) use shuttle::future::{block_on, yield_now as give_way};
pub(crate) use shuttle::thread;

/// How many orders are tried with each way to draw them, unless `ICOSFS_ORDERS`
/// in the environment says how many.
const ORDERS: usize = 300;
/// The same ones each time, so that who broke something is told.
const SEED: u64 = 42;
/// Who goes on for longer waits for what never comes.
const STEPS: usize = 100_000;

/// Runs `scene` again and again, with another order of its threads each time:
/// once drawing at each step who goes next, and once letting one go on but for
/// a few drawn places, where most faults show. A thread that can never go on
/// fails it, too.
pub(crate) fn check(scene: impl Fn() + Clone + Send + Sync + 'static) {
    let named = std::env::var("ICOSFS_ORDERS").ok();
    let times = named.map_or(ORDERS, |times| times.parse().expect("a number"));
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS);
    let each_step = RandomScheduler::new_from_seed(SEED, times);
    Runner::new(each_step, config.clone()).run(scene.clone());
    let few_places = PctScheduler::new_from_seed(SEED, 3, times);
    Runner::new(few_places, config).run(scene);
}

fn is_checked() -> bool {
    shuttle::current::try_get_current_task().is_some()
}

#[derive(Debug, Default)]
pub(super) struct Turn(shuttle::sync::Mutex<()>);

#[derive(Debug)]
pub(super) struct Taken<'a>(
    #[expect(dead_code, reason = "given back when dropped")]
    Option<shuttle::sync::MutexGuard<'a, ()>>,
);

impl Turn {
    pub(super) fn take(&self) -> Taken<'_> {
        let take = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Taken(is_checked().then(take))
    }

    pub(super) fn try_take(&self) -> Option<Taken<'_>> {
        if !is_checked() {
            return Some(Taken(None));
        }
        match self.0.try_lock() {
            Ok(turn) => Some(Taken(Some(turn))),
            Err(TryLockError::Poisoned(turn)) => Some(Taken(Some(turn.into_inner()))),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

pub(crate) fn other_threads_may_go_first() {
    if is_checked() {
        // Shuttle switches at its own counters.
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// Waits, or lets others go first.
pub(crate) fn sleep(time: Duration) {
    if is_checked() {
        thread::yield_now();
    } else {
        std::thread::sleep(time);
    }
}

/// A task of its own, as tokio's: what it comes to, or what it panicked with.
pub(crate) fn spawn<F>(work: F) -> BoxFuture<'static, Result<F::Output, Box<dyn Any + Send>>>
where
    F: Future<Output: Send> + Send + 'static,
{
    if !is_checked() {
        let task = tokio::spawn(work);
        return task
            .map(|done| done.map_err(|error| Box::new(error) as _))
            .boxed();
    }
    let task = shuttle::future::spawn(AssertUnwindSafe(work).catch_unwind());
    task.map(|done| done.expect("nobody aborts it")).boxed()
}
