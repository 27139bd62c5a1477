//! What the record says of each request.

use std::time::Duration;

use serde_json::json;

use super::support::Visit;
use crate::{DemoService, Fault, FaultRule};

const NETCDF: &str = "demo_inversion_2023.nc";

#[tokio::test]
async fn a_request_is_recorded_with_all_that_a_test_may_ask() {
    let visit = Visit::new();
    let url = format!("data:/objects/{}", visit.id(NETCDF));
    let question = visit.get_as_user(&url).header("range", "bytes=10-29");
    question.header("user-agent", "me/1").answer().await;
    visit.get("meta:/nonsense?x=1").answer().await;
    let form = "mail=demo%40icosfs.example&password=wrong";
    visit.post("auth:/password/login").form(form).answer().await;

    // The client has its answer a moment before the portal is done with it.
    while visit.portal.requests().iter().any(|r| r.ended.is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let requests = visit.portal.requests();
    let [data, meta, auth] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (data.service, &*data.method, &*data.route, data.cookie),
        (DemoService::Data, "GET", "objects", true)
    );
    assert_eq!(data.path, url.strip_prefix("data:").unwrap());
    assert_eq!(data.range.as_deref(), Some("bytes=10-29"));
    assert_eq!(data.user_agent.as_deref(), Some("me/1"));
    assert_eq!((data.status, data.bytes, data.complete), (206, 20, true));
    assert_eq!(
        (meta.service, &*meta.route, &*meta.path, meta.cookie),
        (DemoService::Meta, "nonsense", "/nonsense?x=1", false)
    );
    assert_eq!((meta.status, meta.range.as_deref()), (404, None));
    assert_eq!(
        (auth.status, &*auth.body, &*auth.route),
        (403, form, "password")
    );
    for request in &requests {
        assert!(request.started <= request.ended.unwrap(), "{request:?}");
        assert_eq!(request.concurrency, 1, "{request:?}");
    }
    assert!(requests.is_sorted_by_key(|request| request.started));
    let slowed = auth.started + Duration::from_millis(500);
    assert!(auth.ended.unwrap() >= slowed, "{auth:?}");

    let control = format!("{}/requests", visit.portal.control_url());
    let record = visit.ask_url("GET".parse().unwrap(), &control);
    let record = record.answer().await.json();
    assert_eq!(record[0]["range"], json!("bytes=10-29"));
    assert_eq!(record[2]["started"]["secs"], json!(auth.started.as_secs()));
}

#[tokio::test]
async fn the_record_tells_how_many_a_service_was_busy_with() {
    let visit = Visit::new();
    let stall = Fault::Stall { after: 1, ms: None };
    let id = visit.id(NETCDF);
    visit.portal.add_fault(FaultRule::always(stall).of(&id));
    let transfers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(visit.get(&format!("data:/objects/{id}")).try_answer()))
        .collect();
    while visit.portal.requests().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The others have services of their own.
    visit.get("auth:/whoami").answer().await;
    visit.get("data:/whoami").answer().await;
    let busy: Vec<_> = visit
        .portal
        .requests()
        .iter()
        .map(|r| r.concurrency)
        .collect();
    assert_eq!(busy, [1, 2, 3, 1, 4]);
    for transfer in transfers {
        transfer.abort();
    }
}

#[tokio::test]
async fn a_request_whose_body_is_too_long_is_refused_and_recorded() {
    let visit = Visit::new();
    let body = vec![b'x'; 9 << 20];
    let outcome = visit.post("data:/cpb").body(body).try_answer().await;
    // The service may hang up before all of it was sent.
    assert!(outcome.is_err() || outcome.is_ok_and(|answer| answer.status == 400));
    let requests = visit.portal.requests();
    assert_eq!((requests.len(), &*requests[0].route), (1, "cpb"));
}
