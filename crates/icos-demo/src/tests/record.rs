//! The content of the request record.

use std::time::Duration;

use serde_json::json;

use super::support::TestClient;
use crate::{DemoService, Fault, FaultRule};

const NETCDF: &str = "demo_inversion_2023.nc";

#[tokio::test]
async fn request_is_recorded_with_all_fields() {
    let client = TestClient::new();
    let url = format!("data:/objects/{}", client.id(NETCDF));
    let request = client.get_as_user(&url).header("range", "bytes=10-29");
    request.header("user-agent", "me/1").answer().await;
    client.get("meta:/nonsense?x=1").answer().await;
    let form = "mail=demo%40icosfs.example&password=wrong";
    client
        .post("auth:/password/login")
        .form(form)
        .answer()
        .await;

    // The client has its reply before the portal has ended the request.
    while client.portal.requests().iter().any(|r| r.ended.is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let requests = client.portal.requests();
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

    let control = format!("{}/requests", client.portal.control_url());
    let record = client.ask_url("GET".parse().unwrap(), &control);
    let record = record.answer().await.json();
    assert_eq!(record[0]["range"], json!("bytes=10-29"));
    assert_eq!(record[2]["started"]["secs"], json!(auth.started.as_secs()));
}

#[tokio::test]
async fn record_counts_concurrent_requests_by_service() {
    let client = TestClient::new();
    let stall = Fault::Stall { after: 1, ms: None };
    let id = client.id(NETCDF);
    client.portal.add_fault(FaultRule::always(stall).of(&id));
    let transfers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(client.get(&format!("data:/objects/{id}")).try_answer()))
        .collect();
    while client.portal.requests().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Each service counts its own requests.
    client.get("auth:/whoami").answer().await;
    client.get("data:/whoami").answer().await;
    let requests = client.portal.requests();
    let mut busy: Vec<_> = requests.iter().map(|r| r.concurrency).collect();
    // They may be counted in another order than they are recorded.
    busy[..3].sort_unstable();
    assert_eq!(busy, [1, 2, 3, 1, 4]);
    for transfer in transfers {
        transfer.abort();
    }
}

#[tokio::test]
async fn request_with_too_long_body_is_refused_and_recorded() {
    let client = TestClient::new();
    let body = vec![b'x'; 9 << 20];
    let outcome = client.post("data:/cpb").body(body).try_answer().await;
    // The service may close the connection before the body is complete.
    assert!(outcome.is_err() || outcome.is_ok_and(|answer| answer.status == 400));
    let requests = client.portal.requests();
    assert_eq!((requests.len(), &*requests[0].route), (1, "cpb"));
}
