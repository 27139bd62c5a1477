//! Shuttle schedules the threads that run within [`check`]; all other threads
//! run as in `system.rs`.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

/// Runs a future to completion on a thread within [`check`].
pub use shuttle::future::block_on;
/// Lets other tasks within [`check`] continue first.
pub use shuttle::future::yield_now;
/// Threads within [`check`].
pub use shuttle::thread;

/// Schedules per scheduler, unless the environment variable `ICOSFS_SCHEDULES`
/// names another number.
const SCHEDULES: usize = 300;
/// Fixed, so that a failure repeats.
const SEED: u64 = 42;
/// A schedule of more steps waits for something that never happens.
const STEPS: usize = 100_000;

/// Runs `scene` under many thread schedules: first with a random choice at each
/// step, then with a few random preemptions, which find most faults.
///
/// # Panics
///
/// If `scene` panics or deadlocks under one of the schedules.
pub fn check(scene: impl Fn() + Clone + Send + Sync + 'static) {
    let number = std::env::var("ICOSFS_SCHEDULES").ok();
    let number = number.map_or(SCHEDULES, |n| {
        n.parse().expect("ICOSFS_SCHEDULES is a number")
    });
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS);
    let random = RandomScheduler::new_from_seed(SEED, number);
    Runner::new(random, config.clone()).run(scene.clone());
    let preemptive = PctScheduler::new_from_seed(SEED, 3, number);
    Runner::new(preemptive, config).run(scene);
}

fn is_within_check() -> bool {
    shuttle::current::try_get_current_task().is_some()
}

/// A lock of shuttle's, taken before the lock of `std` that it stands for.
#[derive(Debug, Default)]
pub(crate) struct ScheduledLock(shuttle::sync::Mutex<()>);

#[derive(Debug)]
pub(crate) struct ScheduledGuard<'a>(
    #[expect(dead_code, reason = "unlocks when dropped")] Option<shuttle::sync::MutexGuard<'a, ()>>,
);

impl ScheduledLock {
    pub(crate) fn lock(&self) -> ScheduledGuard<'_> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ScheduledGuard(is_within_check().then(lock))
    }

    pub(crate) fn try_lock(&self) -> Option<ScheduledGuard<'_>> {
        if !is_within_check() {
            return Some(ScheduledGuard(None));
        }
        match self.0.try_lock() {
            Ok(guard) => Some(ScheduledGuard(Some(guard))),
            Err(TryLockError::Poisoned(guard)) => Some(ScheduledGuard(Some(guard.into_inner()))),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Marks where threads can interfere without a lock or a counter, for example
/// through files, so that a test can switch threads there.
pub fn schedule_point() {
    if is_within_check() {
        // Shuttle can switch threads at each access to an atomic of its own.
        shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

/// Sleeps; within [`check`], lets other threads continue first instead.
pub fn sleep(time: Duration) {
    if is_within_check() {
        thread::yield_now();
    } else {
        std::thread::sleep(time);
    }
}

/// Spawns a task, like [`tokio::spawn`]. The error is what the task panicked
/// with.
pub fn spawn<F>(work: F) -> BoxFuture<'static, Result<F::Output, Box<dyn Any + Send>>>
where
    F: Future<Output: Send> + Send + 'static,
{
    if !is_within_check() {
        let task = tokio::spawn(work);
        return task
            .map(|done| done.map_err(|error| Box::new(error) as _))
            .boxed();
    }
    let task = shuttle::future::spawn(AssertUnwindSafe(work).catch_unwind());
    task.map(|done| done.expect("no task is aborted within `check`"))
        .boxed()
}
