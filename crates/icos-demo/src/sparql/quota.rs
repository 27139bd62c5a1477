//! Limits of the query time of a client (protocol page, section 4).
//!
//! A query costs the time from its arrival to its reply, including the wait. A
//! client over its quota gets 503 until the minute or the hour is over. A
//! client that queues too many queries is banned for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits of the SPARQL service. Tests can shorten the periods.
#[derive(Clone, Debug, PartialEq)]
pub struct SparqlLimits {
    /// How long a query may run.
    pub longest_query: Duration,
    /// Query time allowed within [`SparqlLimits::minute`].
    pub per_minute: Duration,
    /// Query time allowed within [`SparqlLimits::hour`].
    pub per_hour: Duration,
    /// The length of a minute.
    pub minute: Duration,
    /// The length of an hour.
    pub hour: Duration,
    /// Queries that run at once; more have to wait.
    pub at_once: usize,
    /// Queries that may wait; more cause a ban.
    pub queue: usize,
    /// How long a ban lasts.
    pub ban: Duration,
    /// How long results are cached.
    pub cache_life: Duration,
    /// The largest results to cache, in bytes.
    pub cache_entry: usize,
}

impl Default for SparqlLimits {
    /// The real service's limits.
    fn default() -> Self {
        Self {
            longest_query: Duration::from_secs(9),
            per_minute: Duration::from_secs(20),
            per_hour: Duration::from_mins(5),
            minute: Duration::from_mins(1),
            hour: Duration::from_hours(1),
            at_once: 5,
            queue: 100,
            ban: Duration::from_mins(10),
            cache_life: Duration::from_hours(1),
            cache_entry: 8 << 20,
        }
    }
}

/// The quota accounts of all clients.
pub(crate) struct QueryQuota {
    limits: SparqlLimits,
    clients: Mutex<HashMap<String, QuotaAccount>>,
}

struct QuotaAccount {
    /// One permit for each query that may run at once.
    slots: Arc<Semaphore>,
    runs: Vec<Arc<QueryRun>>,
    /// The end of a ban, and the same time for the message.
    ban: Option<(Instant, Timestamp)>,
}

/// A query: its arrival, and its cost once it has ended.
struct QueryRun {
    start: Instant,
    cost: OnceLock<Duration>,
}

impl QueryQuota {
    pub(crate) fn new(limits: SparqlLimits) -> Self {
        Self {
            limits,
            clients: Mutex::default(),
        }
    }

    /// Waits until a client's query may run.
    ///
    /// # Errors
    ///
    /// The service's message if the query is refused.
    pub(crate) async fn admit(&self, client: &str) -> Result<QueryPermit, String> {
        let (run, slots) = self.enter(client)?;
        let mut permit = QueryPermit {
            run,
            longest: self.limits.longest_query,
            slot: None,
        };
        permit.slot = slots.acquire_owned().await.ok();
        Ok(permit)
    }

    /// Registers a query that has arrived, unless the client is over its quota.
    fn enter(&self, client: &str) -> Result<(Arc<QueryRun>, Arc<Semaphore>), String> {
        let limits = &self.limits;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let account = clients
            .entry(client.to_owned())
            .or_insert_with(|| QuotaAccount {
                slots: Arc::new(Semaphore::new(limits.at_once)),
                runs: Vec::new(),
                ban: None,
            });
        let now = Instant::now();
        if let Some((_, until)) = account.ban.filter(|(end, _)| now < *end) {
            return Err(banned(until));
        }
        let age = |run: &QueryRun| now.duration_since(run.start);
        let ended = |run: &QueryRun| run.cost.get().is_some();
        (account.runs).retain(|run| !ended(run) || age(run) < limits.hour);
        let cost = |run: &QueryRun| {
            let cost = run.cost.get().copied();
            cost.unwrap_or(age(run).min(limits.longest_query))
        };
        let spent = |period: Duration| -> Duration {
            let recent = account.runs.iter().filter(|run| age(run) < period);
            recent.map(|run| cost(run)).sum()
        };
        if spent(limits.hour) >= limits.per_hour {
            return Err("You have exceeded your hourly query quota. \
                Please wait 1 hour to run more queries."
                .to_owned());
        }
        if spent(limits.minute) >= limits.per_minute {
            return Err("You have exceeded your per-minute query quota. \
                Please wait 1 minute to run more queries."
                .to_owned());
        }
        let unended = account.runs.iter().filter(|run| !ended(run)).count();
        if unended >= limits.at_once + limits.queue {
            let ban = SignedDuration::try_from(limits.ban).unwrap_or_default();
            let until = Timestamp::now() + ban;
            account.ban = Some((now + limits.ban, until));
            return Err(banned(until));
        }
        let run = Arc::new(QueryRun {
            start: now,
            cost: OnceLock::new(),
        });
        account.runs.push(Arc::clone(&run));
        Ok((run, Arc::clone(&account.slots)))
    }
}

fn banned(until: Timestamp) -> String {
    format!("You are banned for service overuse until {until}")
}

/// A running or waiting query. Its cost is charged when this is dropped.
pub(crate) struct QueryPermit {
    run: Arc<QueryRun>,
    longest: Duration,
    /// Present while the query runs.
    slot: Option<OwnedSemaphorePermit>,
}

impl Drop for QueryPermit {
    fn drop(&mut self) {
        let cost = self.run.start.elapsed().min(self.longest);
        // Only this sets it.
        let _ = self.run.cost.set(cost);
        self.slot.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(change: impl FnOnce(&mut SparqlLimits)) -> QueryQuota {
        let mut limits = SparqlLimits {
            longest_query: Duration::from_millis(100),
            per_minute: Duration::from_millis(30),
            per_hour: Duration::from_millis(60),
            minute: Duration::from_millis(300),
            hour: Duration::from_mins(1),
            ..SparqlLimits::default()
        };
        change(&mut limits);
        QueryQuota::new(limits)
    }

    async fn spend(quota: &QueryQuota, millis: u64) -> Result<(), String> {
        let slot = quota.admit("someone").await?;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        drop(slot);
        Ok(())
    }

    #[tokio::test]
    async fn client_over_minute_quota_is_refused_until_next_minute() {
        let quota = quota(|_| {});
        spend(&quota, 35).await.unwrap();
        let refusal = spend(&quota, 0).await.unwrap_err();
        assert!(refusal.contains("per-minute"), "{refusal}");
        quota.admit("another").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        spend(&quota, 35).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let refusal = spend(&quota, 0).await.unwrap_err();
        assert!(refusal.contains("hourly"), "{refusal}");
    }

    #[tokio::test]
    async fn sixth_concurrent_query_waits() {
        let quota = QueryQuota::new(SparqlLimits::default());
        let mut running = Vec::new();
        for _ in 0..5 {
            running.push(quota.admit("someone").await.unwrap());
        }
        let sixth = tokio::time::timeout(Duration::from_millis(20), quota.admit("someone"));
        assert!(sixth.await.is_err());
        running.pop();
        quota.admit("someone").await.unwrap();
    }

    #[tokio::test]
    async fn client_with_full_queue_is_banned_temporarily() {
        let quota = quota(|limits| {
            limits.at_once = 1;
            limits.queue = 0;
            limits.ban = Duration::from_millis(200);
        });
        let running = quota.admit("someone").await.unwrap();
        let refusal = quota.admit("someone").await.err().unwrap();
        assert!(
            refusal.contains("banned for service overuse until"),
            "{refusal}"
        );
        drop(running);
        assert!(
            quota.admit("someone").await.is_err(),
            "the ban outlives its cause"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        quota.admit("someone").await.unwrap();
    }
}
