//! Section 4: the cost of queries, time limits, and caching.

use std::time::Duration;

use super::support::{TestClient, TestRequest};
use crate::{DemoOptions, DemoRepository, Fault, FaultRule, SparqlLimits};

const EVERYTHING: &str = "select * where { ?s ?p ?o }";

fn limited(change: impl FnOnce(&mut SparqlLimits)) -> TestClient {
    let mut options = DemoOptions::default();
    change(&mut options.limits);
    TestClient::to(DemoRepository::builtin(1), options)
}

#[tokio::test]
async fn query_over_time_limit_returns_400() {
    assert_eq!(
        SparqlLimits::default().longest_query,
        Duration::from_secs(9)
    );
    let client = limited(|limits| limits.longest_query = Duration::from_millis(100));
    client
        .portal
        .add_fault(FaultRule::always(Fault::SlowQuery { ms: 9000 }));
    let answer = client.post("meta:/sparql").body(EVERYTHING).answer().await;
    answer.assert(400, "SPARQL execution timeout");
}

#[tokio::test]
async fn query_stopped_after_first_results_returns_200_with_trailing_error() {
    let client = limited(|limits| limits.longest_query = Duration::from_millis(400));
    let endless = "select * where { ?a ?b ?c . ?d ?e ?f }";
    let answer = client
        .post("meta:/sparql")
        .header("accept", "text/csv")
        .body(endless)
        .answer()
        .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .ends_with("java.util.concurrent.CancellationException\n")
    );
}

#[tokio::test]
async fn who_queries_too_much_gets_503() {
    let client = limited(|limits| limits.per_minute = Duration::from_millis(50));
    client
        .portal
        .add_fault(FaultRule::always(Fault::SlowQuery { ms: 60 }));
    let ask = async |number: u32| {
        let query = format!("{EVERYTHING} limit {number}");
        client.post("meta:/sparql").body(query).answer().await
    };
    assert_eq!(ask(1).await.status, 200);
    ask(2).await.assert(
        503,
        "You have exceeded your per-minute query quota. Please wait 1 minute to run more queries.",
    );
    let again = ask(1).await;
    assert_eq!(again.status, 200, "kept results cost nothing");
    assert_eq!(again.header("x-cache-status"), "HIT");
}

#[tokio::test]
async fn results_are_cached_unless_client_forbids_it() {
    let client = limited(|limits| limits.cache_life = Duration::from_millis(300));
    let ask = || client.post("meta:/sparql").body(EVERYTHING);
    let status = async |request: TestRequest| {
        let answer = request.answer().await;
        answer.header("x-cache-status").to_owned()
    };
    assert_eq!(status(ask()).await, "MISS");
    assert_eq!(status(ask()).await, "HIT");
    assert_eq!(status(ask().header("accept", "text/csv")).await, "MISS");
    assert_eq!(
        status(ask().header("cache-control", "no-cache")).await,
        "BYPASS"
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(status(ask().header("accept", "text/csv")).await, "MISS");
}

#[tokio::test]
async fn results_too_long_to_cache_are_computed_again() {
    let client = limited(|limits| limits.cache_entry = 1 << 20);
    // More than clients request at once.
    let query = "select ?a where { ?a ?b ?c . ?d ?e ?f } limit 30000";
    for _ in 0..2 {
        let request = client.post("meta:/sparql").header("accept", "text/csv");
        let answer = request.body(query).answer().await;
        assert_eq!(answer.header("x-cache-status"), "MISS");
        assert_eq!(answer.text().lines().count(), 30_001);
    }
}
