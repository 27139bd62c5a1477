//! Faults on request: what a client sees, and what the record says.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Question, Visit};
use crate::{DemoService, Fault, FaultPlan, FaultRule};

const HTM_CO2: &str = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";
const NETCDF: &str = "demo_inversion_2023.nc";

impl Visit {
    fn with(fault: Fault) -> Self {
        let visit = Visit::new();
        visit.portal.add_fault(FaultRule::always(fault));
        visit
    }

    /// Asks for the netCDF file, which needs no login.
    fn file(&self) -> Question {
        self.get(&format!("data:/objects/{}", self.id(NETCDF)))
    }

    fn whole_file(&self) -> Vec<u8> {
        let id = self.id(NETCDF);
        self.portal.repository().original(&id).unwrap()
    }
}

/// Waits until the record says that the last request has ended.
async fn last_ended(visit: &Visit) -> crate::RecordedRequest {
    loop {
        let last = visit.portal.requests().pop().unwrap();
        if last.ended.is_some() {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn latency_delays_the_answer() {
    let visit = Visit::with(Fault::Latency {
        ms: 150,
        jitter_ms: 50,
    });
    let start = Instant::now();
    assert_eq!(visit.get("data:/whoami").answer().await.status, 200);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
    assert_eq!(last_ended(&visit).await.faults, ["latency"]);
}

#[tokio::test]
async fn a_narrow_line_is_shared_by_all_bodies() {
    let visit = Visit::with(Fault::Bandwidth {
        bytes_per_second: 4_000_000,
    });
    let start = Instant::now();
    let read = async || {
        visit
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
async fn another_status_comes_instead_of_the_answer() {
    let visit = Visit::with(Fault::Status {
        code: 503,
        retry_after: Some(2),
    });
    let answer = visit.file().answer().await;
    answer.assert(503, "Service Unavailable");
    assert_eq!(answer.header("retry-after"), "2");
}

#[tokio::test]
async fn a_connection_may_end_before_the_answer() {
    for fault in [Fault::Close, Fault::Reset] {
        let visit = Visit::with(fault.clone());
        let error = visit.file().try_answer().await.err().unwrap();
        assert!(!error.is_timeout(), "{error:?}");
        let last = last_ended(&visit).await;
        assert_eq!((last.status, last.complete), (0, false), "{fault:?}");
    }
}

#[tokio::test]
async fn a_connection_may_end_within_the_body() {
    for fault in [
        Fault::Truncate { after: 100_000 },
        Fault::ResetInBody { after: 100_000 },
        Fault::Truncate { after: u64::MAX },
    ] {
        let visit = Visit::with(fault.clone());
        assert!(visit.file().try_answer().await.is_err(), "{fault:?}");
        let last = last_ended(&visit).await;
        assert_eq!((last.status, last.complete), (200, false));
        assert!(last.bytes < visit.whole_file().len() as u64);
    }
}

#[tokio::test]
async fn a_body_may_end_early_without_telling() {
    let visit = Visit::with(Fault::Shorten { after: 1000 });
    let answer = visit.file().answer().await;
    assert_eq!(answer.header("content-length"), "1000");
    assert!(answer.body == visit.whole_file()[..1000]);
}

#[tokio::test]
async fn a_body_may_stall_for_a_while_or_for_ever() {
    let visit = Visit::with(Fault::Stall {
        after: 500_000,
        ms: Some(200),
    });
    let start = Instant::now();
    assert!(visit.file().answer().await.body == visit.whole_file());
    assert!(start.elapsed() >= Duration::from_millis(200));

    let visit = Visit::with(Fault::Stall {
        after: 500_000,
        ms: None,
    });
    let patience = Duration::from_millis(300);
    let outcome = tokio::time::timeout(patience, visit.file().try_answer()).await;
    assert!(outcome.is_err());
    assert_eq!(last_ended(&visit).await.bytes, 500_000);
}

#[tokio::test]
async fn a_corrupt_byte_stays_in_its_place_of_the_content() {
    let visit = Visit::new();
    let id = visit.id(NETCDF);
    let rule = FaultRule::always(Fault::Corrupt { at: 1_500_000 });
    visit.portal.add_fault(rule.of(&id));
    let mut expected = visit.whole_file();
    expected[1_500_000] ^= 0xFF;
    assert!(visit.file().answer().await.body == expected);
    let part = visit
        .file()
        .header("range", "bytes=1499990-1500009")
        .answer()
        .await;
    assert_eq!(part.body, expected[1_499_990..1_500_010]);

    let other = visit.id("demo handbook.pdf");
    let answer = visit.get(&format!("data:/objects/{other}")).answer().await;
    assert_eq!(
        answer.body,
        visit.portal.repository().original(&other).unwrap()
    );
}

#[tokio::test]
async fn rules_strike_only_where_and_as_often_as_they_say() {
    let visit = Visit::new();
    let broken = FaultRule::always(Fault::Status {
        code: 500,
        retry_after: None,
    });
    visit
        .portal
        .add_fault(broken.at(DemoService::Data).on("whoami").times(2));
    assert_eq!(visit.get("auth:/whoami").answer().await.status, 401);
    for status in [500, 500, 200] {
        assert_eq!(visit.get("data:/whoami").answer().await.status, status);
    }
}

#[tokio::test]
async fn a_rule_of_an_object_strikes_requests_for_its_columns_too() {
    let visit = Visit::new();
    let id = visit.id("every_format.csv");
    visit
        .portal
        .add_fault(FaultRule::always(Fault::Close).of(&id));
    let request = json!({"tableId": id.to_string()});
    assert!(
        visit
            .post_as_user("data:/cpb")
            .json(&request)
            .try_answer()
            .await
            .is_err()
    );
    let request = json!({"tableId": visit.id(NETCDF).to_string()});
    let answer = visit
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_service_can_be_down_and_come_back() {
    let visit = Visit::new();
    visit.portal.go_offline(DemoService::Data);
    let error = visit.file().try_answer().await.err().unwrap();
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(visit.get("auth:/whoami").answer().await.status, 401);
    visit.portal.go_online(DemoService::Data).unwrap();
    assert_eq!(visit.file().answer().await.status, 200);
}

#[tokio::test]
async fn going_offline_cuts_transfers_under_way() {
    let visit = Visit::with(Fault::Stall {
        after: 1000,
        ms: None,
    });
    let transfer = tokio::spawn(visit.file().try_answer());
    while visit
        .portal
        .requests()
        .first()
        .is_none_or(|r| r.bytes < 1000)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    visit.portal.go_offline(DemoService::Data);
    let outcome = tokio::time::timeout(Duration::from_secs(5), transfer).await;
    assert!(outcome.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_portal_stops_when_dropped_even_within_a_runtime() {
    let visit = Visit::new();
    let url = visit.portal.data_url();
    drop(visit);
    assert!(
        tokio::net::TcpStream::connect(url.trim_start_matches("http://"))
            .await
            .is_err()
    );
}

/// A fifth of all requests meets each of these.
fn a_fifth(faults: impl IntoIterator<Item = Fault>) -> FaultPlan {
    let rules = faults.into_iter();
    FaultPlan {
        seed: 42,
        rules: rules
            .map(|fault| FaultRule::always(fault).with_probability(0.2))
            .collect(),
    }
}

/// What befalls a request by itself, and no other.
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

/// What befalls the portal as a whole.
fn portal_faults() -> [Fault; 3] {
    [
        Fault::RevokeTokens,
        Fault::WithdrawLicence { ms: Some(5) },
        Fault::Down { ms: Some(5) },
    ]
}

/// What a run of many requests at once meets, by request.
async fn run_with(plan: FaultPlan) -> Vec<(String, Option<String>, Vec<String>)> {
    let visit = Visit::new();
    visit.portal.set_faults(plan);
    let ids: Vec<_> = visit.portal.repository().objects();
    let questions =
        (0..3).flat_map(|round| ids.iter().map(move |id| (round, *id)).collect::<Vec<_>>());
    let tasks: Vec<_> = questions
        .map(|(round, id)| {
            let last = 1000 + round;
            let question = visit
                .get(&format!("data:/objects/{id}"))
                .header("range", &format!("bytes=0-{last}"));
            tokio::spawn(question.try_answer())
        })
        .collect();
    for task in tasks {
        let _ = task.await.unwrap();
    }
    let requests = visit.portal.requests();
    let mut met: Vec<_> = (requests.into_iter())
        .map(|request| (request.path, request.range, request.faults))
        .collect();
    met.sort();
    // The client repeats a request whose kept connection was cut.
    met.dedup_by_key(|(path, range, _)| (path.clone(), range.clone()));
    met
}

#[tokio::test(flavor = "multi_thread")]
async fn two_crowded_runs_with_one_seed_meet_the_same_faults() {
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

/// Every fault there is, one request after the other: where a service goes
/// down, a crowd would not all get there.
#[tokio::test]
async fn two_runs_with_all_faults_and_one_seed_record_the_same() {
    let run = async || {
        let visit = Visit::without_kept_connections();
        let plan = a_fifth(single_faults().into_iter().chain(portal_faults()));
        visit.portal.set_faults(plan);
        let id = visit.id(HTM_CO2);
        let ship = "http://meta.icos-cp.eu/ontologies/cpmeta/OS";
        let query = format!("select * where {{ ?s a <{ship}> }}");
        for round in 0..12 {
            let request = json!({"tableId": id.to_string(), "round": round});
            for question in [
                visit.get_as_user(&format!("data:/objects/{id}?round={round}")),
                visit.get_as_user(&format!("data:/csv/{id}?limit={round}")),
                visit.post_as_user("data:/cpb").json(&request),
                visit.get_as_user("auth:/whoami"),
                visit.get(&format!("meta:/objects/{id}")),
                visit.post("meta:/sparql").body(query.clone()),
            ] {
                // What comes of it is for the record to say.
                let _ = question.when_it_is_up().await;
            }
        }
        let requests = visit.portal.requests().into_iter();
        requests.map(|r| (r.path, r.faults)).collect::<Vec<_>>()
    };
    let first = run().await;
    assert_eq!(first.len(), 72);
    for fault in single_faults().iter().chain(&portal_faults()) {
        let met = first
            .iter()
            .any(|(_, met)| met.iter().any(|f| f == fault.name()));
        assert!(met, "{fault:?}");
    }
    assert_eq!(run().await, first);
}

#[tokio::test]
async fn tokens_may_be_revoked_by_a_request() {
    let visit = Visit::new();
    let rule = FaultRule::always(Fault::RevokeTokens).on("csv").times(1);
    visit.portal.add_fault(rule);
    let old = visit.portal.token();
    let csv = format!("data:/csv/{}?limit=0", visit.id(HTM_CO2));
    let answer = visit.get(&csv).header("cookie", &old).answer().await;
    assert_eq!(answer.status, 401);
    let answer = visit.get("auth:/whoami").header("cookie", &old).answer();
    assert_eq!(answer.await.status, 401);
    assert_eq!(visit.get_as_user(&csv).answer().await.status, 200);
    assert_eq!(visit.portal.requests()[0].faults, ["revokeTokens"]);
}

#[tokio::test]
async fn the_licence_may_be_withdrawn_for_a_while_or_until_it_is_accepted() {
    let visit = Visit::new();
    let csv = format!("data:/csv/{}?limit=0", visit.id(HTM_CO2));
    let status = async || visit.get_as_user(&csv).answer().await.status;
    let rule = |ms| FaultRule::always(Fault::WithdrawLicence { ms }).times(1);
    visit.portal.add_fault(rule(Some(100)));
    assert_eq!(status().await, 403);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(status().await, 200);
    visit.portal.add_fault(rule(None));
    assert_eq!((status().await, status().await), (403, 403));
    visit.portal.accept_licence(true);
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn a_service_may_go_down_by_a_request_and_come_back() {
    let visit = Visit::new();
    let down = |ms| FaultRule::always(Fault::Down { ms }).at(DemoService::Data);
    visit.portal.add_fault(down(Some(50)).times(1));
    assert!(visit.file().try_answer().await.is_err());
    let error = visit.file().try_answer().await.err().unwrap();
    assert!(error.is_connect(), "refused: {error:?}");
    assert_eq!(visit.get("auth:/whoami").answer().await.status, 401);
    assert_eq!(visit.file().when_it_is_up().await.unwrap().status, 200);

    visit.portal.add_fault(down(None));
    assert!(visit.file().try_answer().await.is_err());
    let error = visit.file().try_answer().await.err().unwrap();
    assert!(error.is_connect(), "{error:?}");
    visit.portal.clear_faults();
    visit.portal.go_online(DemoService::Data).unwrap();
    assert_eq!(visit.file().answer().await.status, 200);
}

#[tokio::test]
async fn another_process_controls_it_over_http() {
    let visit = Visit::new();
    let control = visit.portal.control_url();
    let ask = |method: &str, path: &str, body: serde_json::Value| {
        let method = method.parse().unwrap();
        visit
            .ask_url(method, &format!("{control}{path}"))
            .json(&body)
    };
    let rule = json!({"service": "data", "route": "whoami", "fault": {"status": {"code": 502}}});
    ask("POST", "/faults", rule)
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(visit.get("data:/whoami").answer().await.status, 502);
    let plan = ask("GET", "/faults", json!(null)).answer().await.json();
    assert_eq!(plan["rules"][0]["fault"]["status"]["code"], json!(502));
    let record = ask("GET", "/requests", json!(null)).answer().await.json();
    assert_eq!(record[0]["faults"], json!(["status"]));
    ask("DELETE", "/requests", json!(null))
        .answer()
        .await
        .assert(200, "OK");
    assert!(visit.portal.requests().is_empty());
    ask("DELETE", "/faults", json!(null))
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(visit.get("data:/whoami").answer().await.status, 200);

    let token = visit.portal.token();
    ask("DELETE", "/tokens", json!(null))
        .answer()
        .await
        .assert(200, "OK");
    let answer = visit
        .get("auth:/whoami")
        .header("cookie", &token)
        .answer()
        .await;
    assert_eq!(answer.status, 401);
    ask("PUT", "/licence", json!({"accepted": false}))
        .answer()
        .await
        .assert(200, "OK");
    let url = format!("data:/csv/{}", visit.id("every_format.csv"));
    assert_eq!(visit.get_as_user(&url).answer().await.status, 403);
    ask("PUT", "/password", json!({"password": "new"}))
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(visit.portal.password(), "new");
    ask("PUT", "/services/meta", json!({"online": false}))
        .answer()
        .await
        .assert(200, "OK");
    assert!(visit.get("meta:/sparql").try_answer().await.is_err());
    ask("PUT", "/services/meta", json!({"online": true}))
        .answer()
        .await
        .assert(200, "OK");
    assert_eq!(visit.get("meta:/sparql").answer().await.status, 400);

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
