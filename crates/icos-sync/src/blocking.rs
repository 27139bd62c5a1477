//! Work that would block an async worker thread.

/// Runs `work` on tokio's pool for blocking work, and returns its result.
///
/// If `work` panics, so does the caller. If the caller is dropped, `work` still
/// runs to its end.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
