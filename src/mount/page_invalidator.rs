//! Makes the kernel drop its pages of corrupt files.
//!
//! The notification waits for pages that are being read, so a thread that serves
//! reads must not send it: the two would wait for each other. One thread per mount
//! sends all of them. It is started with the mount, where an error can be reported.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The files whose pages are to be dropped, by inode number. Dropping it ends the
/// thread.
#[derive(Debug)]
pub(super) struct PageInvalidator(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// A set, so that many failed reads of one file cost one notification.
    inodes: BTreeSet<u64>,
    closed: bool,
}

impl PageInvalidator {
    /// Starts the thread, which calls `invalidate` with each inode number.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(super) fn start(invalidate: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let own = Arc::clone(&queue);
        let run = move || {
            while let Some(inode) = own.next() {
                invalidate(inode);
            }
        };
        std::thread::Builder::new()
            .name("invalidator".to_owned())
            .spawn(run)?;
        Ok(Self(queue))
    }

    /// Requests that the pages of the file `inode` be dropped. Returns at once.
    pub(super) fn request(&self, inode: u64) {
        self.0.lock().inodes.insert(inode);
        self.0.changed.notify_one();
    }
}

impl Drop for PageInvalidator {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl Queue {
    /// Waits for the next request; `None` once the queue is closed.
    fn next(&self) -> Option<u64> {
        let state = self.lock();
        let waiting = |state: &mut QueueState| state.inodes.is_empty() && !state.closed;
        let state = self.changed.wait_while(state, waiting);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.inodes.pop_first()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Regression: each failed read started a thread of its own.
    #[test]
    fn requests_for_one_file_share_one_thread_and_one_notification() {
        let (sender, invalidated) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let invalidator = PageInvalidator::start(move |inode| {
            sender.send((inode, std::thread::current().id())).unwrap();
            let _ = gate.recv();
        })
        .unwrap();
        invalidator.request(1);
        let (first, thread) = invalidated.recv().unwrap();
        assert_eq!(first, 1);
        for inode in [2, 3, 2, 2, 3] {
            invalidator.request(inode);
        }
        drop(go);
        for expected in [2, 3] {
            assert_eq!(invalidated.recv().unwrap(), (expected, thread));
        }
        drop(invalidator);
        let more = invalidated.recv_timeout(Duration::from_secs(20));
        assert_eq!(more, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
