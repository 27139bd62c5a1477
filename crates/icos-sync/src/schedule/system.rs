//! The operating system schedules threads, tokio tasks. With the feature
//! `shuttle`, `shuttle.rs` takes this module's place.

use std::marker::PhantomData;

pub use crate::tasks::spawn_task as spawn;
pub use std::thread::sleep;

/// Does nothing: the operating system's locks need no help.
#[derive(Debug, Default)]
pub(crate) struct ScheduledLock;

#[derive(Debug)]
pub(crate) struct ScheduledGuard<'a>(PhantomData<&'a ScheduledLock>);

#[expect(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the signatures of shuttle.rs"
)]
impl ScheduledLock {
    pub(crate) fn lock(&self) -> ScheduledGuard<'_> {
        ScheduledGuard(PhantomData)
    }

    pub(crate) fn try_lock(&self) -> Option<ScheduledGuard<'_>> {
        Some(ScheduledGuard(PhantomData))
    }
}

/// Marks where threads can interfere without a lock or a counter, for example
/// through files, so that a test can switch threads there.
pub fn schedule_point() {}
