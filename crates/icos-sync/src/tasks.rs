//! Tasks, and work that would block an async worker thread.
//!
//! tokio compiles its code for tasks anew for each type of task; with a hundred types that
//! was a tenth of the program. Here tasks and work are boxed, and have few types.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinError, JoinHandle};

/// As [`tokio::spawn`].
pub fn spawn_task<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let task: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(task);
    tokio::spawn(task)
}

/// The result of work of [`spawn_blocking`], which goes on if this is dropped.
#[derive(Debug)]
pub struct BlockingTask<T> {
    task: JoinHandle<Box<dyn Any + Send>>,
    of: PhantomData<fn() -> T>,
}

/// As [`tokio::task::spawn_blocking`].
///
/// # Errors
///
/// [`JoinError`] if `work` panics, or if the runtime ends before it begins.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> BlockingTask<T> {
    let work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> = Box::new(|| Box::new(work()));
    BlockingTask {
        task: tokio::task::spawn_blocking(work),
        of: PhantomData,
    }
}

impl<T: 'static> Future for BlockingTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.task).poll(context));
        Poll::Ready(done.map(|result| *result.downcast().expect("the work returns a T")))
    }
}

/// Runs `work` on tokio's pool for blocking work, and returns its result.
///
/// If `work` panics, so does the caller. If the caller is dropped, `work` still
/// runs to its end.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let result = spawn_blocking(work).await;
    result.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
}
