//! Faults on request: what a client receives, and what the record contains.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{TestClient, TestRequest};
use crate::{DemoService, Fault, FaultPlan, FaultRule};

const HTM_CO2: &str = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";
const NETCDF: &str = "demo_inversion_2023.nc";

impl TestClient {
    fn with(fault: Fault) -> Self {
        let client = TestClient::new();
        client.portal.add_fault(FaultRule::always(fault));
        client
    }

    /// Requests the netCDF file, which needs no login.
    fn file(&self) -> TestRequest {
        self.get(&format!("data:/objects/{}", self.id(NETCDF)))
    }

    fn whole_file(&self) -> Vec<u8> {
        let id = self.id(NETCDF);
        self.portal.repository().original(&id).unwrap()
    }
}

/// Waits until the last request has ended.
async fn last_ended(client: &TestClient) -> crate::RecordedRequest {
    loop {
        let last = client.portal.requests().pop().unwrap();
        if last.ended.is_some() {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn latency_delays_reply() {
    let client = TestClient::with(Fault::Latency {
        ms: 150,
        jitter_ms: 50,
    });
    let start = Instant::now();
    assert_eq!(client.get("data:/whoami").answer().await.status, 200);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
    assert_eq!(last_ended(&client).await.faults, ["latency"]);
}

#[tokio::test]
async fn bandwidth_is_shared_by_all_bodies() {
    let client = TestClient::with(Fault::Bandwidth {
        bytes_per_second: 4_000_000,
    });
    let start = Instant::now();
    let read = async || {
        client
            .file()
            .header("range", "bytes=0-999999")
            .answer()
            .await
    };
    let (one, other) = tokio::join!(read(), read());
    assert_eq!((one.body.len(), other.body.len()), (1_000_000, 1_000_000));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(430), "{waited:?}");
}

#[tokio::test]
async fn status_fault_replaces_reply() {
    let client = TestClient::with(Fault::Status {
        code: 503,
        retry_after: Some(2),
    });
    let answer = client.file().answer().await;
    answer.assert(503, "Service Unavailable");
    assert_eq!(answer.header("retry-after"), "2");
}

#[tokio::test]
async fn connection_can_be_closed_before_reply() {
    for fault in [Fault::Close, Fault::Reset] {
        let client = TestClient::with(fault);
        let error = client.file().try_answer().await.err().unwrap();
        assert!(!error.is_timeout(), "{error:?}");
        let last = last_ended(&client).await;
        assert_eq!((last.status, last.complete), (0, false), "{fault:?}");
    }
}

#[tokio::test]
async fn connection_can_be_closed_within_body() {
    for fault in [
        Fault::Truncate { after: 100_000 },
        Fault::ResetInBody { after: 100_000 },
        Fault::Truncate { after: u64::MAX },
    ] {
        let client = TestClient::with(fault);
        assert!(client.file().try_answer().await.is_err(), "{fault:?}");
        let last = last_ended(&client).await;
        assert_eq!((last.status, last.complete), (200, false));
        assert!(last.bytes < client.whole_file().len() as u64);
    }
}

#[tokio::test]
async fn shortened_body_has_matching_content_length() {
    let client = TestClient::with(Fault::Shorten { after: 1000 });
    let answer = client.file().answer().await;
    assert_eq!(answer.header("content-length"), "1000");
    assert!(answer.body == client.whole_file()[..1000]);
}

#[tokio::test]
async fn body_stalls_for_a_time_or_for_ever() {
    let client = TestClient::with(Fault::Stall {
        after: 500_000,
        ms: Some(200),
    });
    let start = Instant::now();
    assert!(client.file().answer().await.body == client.whole_file());
    assert!(start.elapsed() >= Duration::from_millis(200));

    let client = TestClient::with(Fault::Stall {
        after: 500_000,
        ms: None,
    });
    let patience = Duration::from_millis(300);
    let outcome = tokio::time::timeout(patience, client.file().try_answer()).await;
    assert!(outcome.is_err());
    assert_eq!(last_ended(&client).await.bytes, 500_000);
}

#[tokio::test]
async fn corrupt_byte_has_fixed_offset_in_content() {
    let client = TestClient::new();
    let id = client.id(NETCDF);
    let rule = FaultRule::always(Fault::Corrupt { at: 1_500_000 });
    client.portal.add_fault(rule.of(&id));
    let mut expected = client.whole_file();
    expected[1_500_000] ^= 0xFF;
    assert!(client.file().answer().await.body == expected);
    let part = client
        .file()
        .header("range", "bytes=1499990-1500009")
        .answer()
        .await;
    assert_eq!(part.body, expected[1_499_990..1_500_010]);

    let other = client.id("demo handbook.pdf");
    let answer = client.get(&format!("data:/objects/{other}")).answer().await;
    assert_eq!(
        answer.body,
        client.portal.repository().original(&other).unwrap()
    );
}

#[tokio::test]
async fn rules_apply_to_matching_requests_up_to_their_limit() {
    let client = TestClient::new();
    let broken = FaultRule::always(Fault::Status {
        code: 500,
        retry_after: None,
    });
    client
        .portal
        .add_fault(broken.at(DemoService::Data).on("whoami").times(2));
    assert_eq!(client.get("auth:/whoami").answer().await.status, 401);
    for status in [500, 500, 200] {
        assert_eq!(client.get("data:/whoami").answer().await.status, status);
    }
}

#[tokio::test]
async fn rule_for_an_object_applies_to_requests_for_its_columns() {
    let client = TestClient::new();
    let id = client.id("every_format.csv");
    client
        .portal
        .add_fault(FaultRule::always(Fault::Close).of(&id));
    let request = json!({"tableId": id.to_string()});
    assert!(
        client
            .post_as_user("data:/cpb")
            .json(&request)
            .try_answer()
            .await
            .is_err()
    );
    let request = json!({"tableId": client.id(NETCDF).to_string()});
    let answer = client
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn service_can_go_offline_and_online() {
    let client = TestClient::new();
    client.portal.go_offline(DemoService::Data);
    let error = client.file().try_answer().await.err().unwrap();
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(client.get("auth:/whoami").answer().await.status, 401);
    client.portal.go_online(DemoService::Data).unwrap();
    assert_eq!(client.file().answer().await.status, 200);
}

#[tokio::test]
async fn going_offline_cuts_running_transfers() {
    let client = TestClient::with(Fault::Stall {
        after: 1000,
        ms: None,
    });
    let transfer = tokio::spawn(client.file().try_answer());
    while client
        .portal
        .requests()
        .first()
        .is_none_or(|r| r.bytes < 1000)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.portal.go_offline(DemoService::Data);
    let outcome = tokio::time::timeout(Duration::from_secs(5), transfer).await;
    assert!(outcome.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn portal_stops_when_dropped_within_a_runtime() {
    let client = TestClient::new();
    let url = client.portal.data_url();
    drop(client);
    assert!(
        tokio::net::TcpStream::connect(url.trim_start_matches("http://"))
            .await
            .is_err()
    );
}

/// Each of these applies to a fifth of all requests.
fn a_fifth(faults: impl IntoIterator<Item = Fault>) -> FaultPlan {
    let rules = faults.into_iter();
    FaultPlan {
        seed: 42,
        rules: rules
            .map(|fault| FaultRule::always(fault).with_probability(0.2))
            .collect(),
    }
}

/// Faults that affect one request only.
fn single_faults() -> Vec<Fault> {
    vec![
        Fault::Latency {
            ms: 1,
            jitter_ms: 5,
        },
        Fault::Bandwidth {
            bytes_per_second: 500_000_000,
        },
        Fault::Status {
            code: 503,
            retry_after: Some(1),
        },
        Fault::Close,
        Fault::Reset,
        Fault::ResetInBody { after: 10 },
        Fault::Truncate { after: 10 },
        Fault::Shorten { after: 10 },
        Fault::Stall {
            after: 10,
            ms: Some(1),
        },
        Fault::Corrupt { at: 3 },
        Fault::SlowQuery { ms: 1 },
    ]
}

/// Faults that affect the portal.
fn portal_faults() -> [Fault; 3] {
    [
        Fault::RevokeTokens,
        Fault::WithdrawLicence { ms: Some(5) },
        Fault::Down { ms: Some(5) },
    ]
}

/// The faults of many concurrent requests, by request.
async fn run_with(plan: FaultPlan) -> Vec<(String, Option<String>, Vec<String>)> {
    let client = TestClient::new();
    client.portal.set_faults(plan);
    let ids: Vec<_> = client.portal.repository().objects();
    let questions =
        (0..3).flat_map(|round| ids.iter().map(move |id| (round, *id)).collect::<Vec<_>>());
    let tasks: Vec<_> = questions
        .map(|(round, id)| {
            let last = 1000 + round;
            let request = client
                .get(&format!("data:/objects/{id}"))
                .header("range", &format!("bytes=0-{last}"));
            tokio::spawn(request.try_answer())
        })
        .collect();
    for task in tasks {
        let _ = task.await.unwrap();
    }
    let requests = client.portal.requests();
    let mut met: Vec<_> = (requests.into_iter())
        .map(|request| (request.path, request.range, request.faults))
        .collect();
    met.sort();
    // The client repeats a request if its reused connection was closed.
    met.dedup_by_key(|(path, range, _)| (path.clone(), range.clone()));
    met
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_runs_with_same_seed_have_same_faults() {
    let plan = || a_fifth(single_faults());
    let first = run_with(plan()).await;
    assert!(first.len() > 60, "{}", first.len());
    let met: usize = first.iter().map(|(_, _, faults)| faults.len()).sum();
    let expected = first.len() * plan().rules.len() / 5;
    assert!(met > expected / 2 && met < expected * 2, "{met} faults");
    assert_eq!(run_with(plan()).await, first);
    let other = FaultPlan { seed: 43, ..plan() };
    assert_ne!(run_with(other).await, first);
}

/// All faults, with one request after the other: while a service is offline,
/// concurrent requests may not reach it.
#[tokio::test]
async fn runs_with_all_faults_and_same_seed_have_same_record() {
    let run = async || {
        let client = TestClient::without_kept_connections();
        let plan = a_fifth(single_faults().into_iter().chain(portal_faults()));
        client.portal.set_faults(plan);
        let id = client.id(HTM_CO2);
        let ship = "http://meta.icos-cp.eu/ontologies/cpmeta/OS";
        let query = format!("select * where {{ ?s a <{ship}> }}");
        for round in 0..12 {
            let request = json!({"tableId": id.to_string(), "round": round});
            for request in [
                client.get_as_user(&format!("data:/objects/{id}?round={round}")),
                client.get_as_user(&format!("data:/csv/{id}?limit={round}")),
                client.post_as_user("data:/cpb").json(&request),
                client.get_as_user("auth:/whoami"),
                client.get(&format!("meta:/objects/{id}")),
                client.post("meta:/sparql").body(query.clone()),
            ] {
                // Only the record of it is compared.
                let _ = request.when_it_is_up().await;
            }
        }
        let requests = client.portal.requests().into_iter();
        requests.map(|r| (r.path, r.faults)).collect::<Vec<_>>()
    };
    let first = run().await;
    assert_eq!(first.len(), 72);
    for fault in single_faults().iter().chain(&portal_faults()) {
        let met = first
            .iter()
            .any(|(_, met)| met.iter().any(|f| f == &fault.name()));
        assert!(met, "{fault:?}");
    }
    assert_eq!(run().await, first);
}

#[tokio::test]
async fn fault_revokes_tokens() {
    let client = TestClient::new();
    let rule = FaultRule::always(Fault::RevokeTokens).on("csv").times(1);
    client.portal.add_fault(rule);
    let old = client.portal.token();
    let csv = format!("data:/csv/{}?limit=0", client.id(HTM_CO2));
    let answer = client.get(&csv).header("cookie", &old).answer().await;
    assert_eq!(answer.status, 401);
    let answer = client.get("auth:/whoami").header("cookie", &old).answer();
    assert_eq!(answer.await.status, 401);
    assert_eq!(client.get_as_user(&csv).answer().await.status, 200);
    assert_eq!(client.portal.requests()[0].faults, ["revokeTokens"]);
}

#[tokio::test]
async fn licence_withdrawal_ends_after_time_or_by_acceptance() {
    let client = TestClient::new();
    let csv = format!("data:/csv/{}?limit=0", client.id(HTM_CO2));
    let status = async || client.get_as_user(&csv).answer().await.status;
    let rule = |ms| FaultRule::always(Fault::WithdrawLicence { ms }).times(1);
    client.portal.add_fault(rule(Some(100)));
    assert_eq!(status().await, 403);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(status().await, 200);
    client.portal.add_fault(rule(None));
    assert_eq!((status().await, status().await), (403, 403));
    client.portal.accept_licence(true);
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn fault_takes_service_offline_and_back() {
    let client = TestClient::new();
    let down = |ms| FaultRule::always(Fault::Down { ms }).at(DemoService::Data);
    client.portal.add_fault(down(Some(50)).times(1));
    assert!(client.file().try_answer().await.is_err());
    let error = client.file().try_answer().await.err().unwrap();
    assert!(error.is_connect(), "refused: {error:?}");
    assert_eq!(client.get("auth:/whoami").answer().await.status, 401);
    assert_eq!(client.file().when_it_is_up().await.unwrap().status, 200);

    client.portal.add_fault(down(None));
    assert!(client.file().try_answer().await.is_err());
    let error = client.file().try_answer().await.err().unwrap();
    assert!(error.is_connect(), "{error:?}");
    client.portal.clear_faults();
    client.portal.go_online(DemoService::Data).unwrap();
    assert_eq!(client.file().answer().await.status, 200);
}

#[tokio::test]
async fn control_service_changes_portal_over_http() {
    let client = TestClient::new();
    let control = client.portal.control_url();
    let ask = |method: &str, path: &str, body: serde_json::Value| {
        let method = method.parse().unwrap();
        client
            .ask_url(method, &format!("{control}{path}"))
            .json(&body)
    };
    let rule = json!({"service": "data", "route": "whoami", "fault": {"status": {"code": 502}}});
    ask("POST", "/faults", rule)
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(client.get("data:/whoami").answer().await.status, 502);
    let plan = ask("GET", "/faults", json!(null)).answer().await.json();
    assert_eq!(plan["rules"][0]["fault"]["status"]["code"], json!(502));
    let record = ask("GET", "/requests", json!(null)).answer().await.json();
    assert_eq!(record[0]["faults"], json!(["status"]));
    ask("DELETE", "/requests", json!(null))
        .answer()
        .await
        .assert(200, "OK");
    assert!(client.portal.requests().is_empty());
    ask("DELETE", "/faults", json!(null))
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(client.get("data:/whoami").answer().await.status, 200);

    let token = client.portal.token();
    ask("DELETE", "/tokens", json!(null))
        .answer()
        .await
        .assert(200, "OK");
    let answer = client
        .get("auth:/whoami")
        .header("cookie", &token)
        .answer()
        .await;
    assert_eq!(answer.status, 401);
    ask("PUT", "/licence", json!({"accepted": false}))
        .answer()
        .await
        .assert(200, "OK");
    let url = format!("data:/csv/{}", client.id("every_format.csv"));
    assert_eq!(client.get_as_user(&url).answer().await.status, 403);
    ask("PUT", "/password", json!({"password": "new"}))
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(client.portal.password(), "new");
    ask("PUT", "/services/meta", json!({"online": false}))
        .answer()
        .await
        .assert(200, "OK");
    assert!(client.get("meta:/sparql").try_answer().await.is_err());
    ask("PUT", "/services/meta", json!({"online": true}))
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(client.get("meta:/sparql").answer().await.status, 400);

    assert_eq!(
        ask("PUT", "/faults", json!({"x": 1})).answer().await.status,
        400
    );
    assert!(
        ask("GET", "/", json!(null))
            .answer()
            .await
            .text()
            .contains("/faults")
    );
}
