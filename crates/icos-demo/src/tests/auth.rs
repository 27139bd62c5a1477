use serde_json::json;

use super::support::TestClient;

// Section 1.

#[tokio::test]
async fn correct_password_returns_cookie_that_services_accept() {
    let client = TestClient::new();
    let answer = client
        .post("auth:/password/login")
        .form("mail=demo%40icosfs.example&password=let+me+in")
        .answer()
        .await;
    answer.assert(200, "OK");
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.starts_with("cpauthToken="), "{cookie}");
    assert!(
        cookie.ends_with("; Domain=.icos-cp.eu; Path=/; Secure; HttpOnly"),
        "{cookie}"
    );

    // icoscp_core keeps the part up to the blank, with the semicolon.
    let kept = cookie.split(' ').next().unwrap();
    let whoami = client
        .get("auth:/whoami")
        .header("cookie", kept)
        .answer()
        .await;
    whoami.assert(200, r#"{"email":"demo@icosfs.example"}"#);
}

#[tokio::test]
async fn wrong_password_is_refused_with_delay() {
    let client = TestClient::new();
    let start = std::time::Instant::now();
    let answer = client
        .post("auth:/password/login")
        .form("mail=demo%40icosfs.example&password=wrong")
        .answer()
        .await;
    answer.assert(403, "Incorrect user name or password");
    assert!(start.elapsed().as_millis() >= 500);
    assert_eq!(answer.header("set-cookie"), "");
}

#[tokio::test]
async fn login_without_a_field_returns_400() {
    let client = TestClient::new();
    let answer = client
        .post("auth:/password/login")
        .form("mail=demo%40icosfs.example")
        .answer()
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn whoami_requires_unexpired_token() {
    let client = TestClient::new();
    assert_eq!(client.get("auth:/whoami").answer().await.status, 401);
    let expired = client
        .portal
        .mint_token(jiff::SignedDuration::from_secs(-1));
    let answer = client
        .get("auth:/whoami")
        .header("cookie", &expired)
        .answer()
        .await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("has expired"), "{}", answer.text());

    let revoked = client.portal.token();
    client.portal.revoke_tokens();
    let answer = client
        .get("auth:/whoami")
        .header("cookie", &revoked)
        .answer()
        .await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        client.get_as_user("auth:/whoami").answer().await.status,
        200
    );
}

#[tokio::test]
async fn data_whoami_without_login_returns_null() {
    let client = TestClient::new();
    let answer = client.get("data:/whoami").answer().await;
    answer.assert(200, r#"{"email":null}"#);
    let answer = client.get_as_user("data:/whoami").answer().await;
    answer.assert(200, r#"{"email":"demo@icosfs.example"}"#);
}

#[tokio::test]
async fn profile_shows_owner_whether_licence_is_accepted() {
    let client = TestClient::new();
    let url = "auth:/db/users/demo@icosfs.example?keys=%7Bprofile:1%7D";
    let answer = client.get_as_user(url).answer().await;
    assert_eq!(answer.json()["profile"]["icosLicenceOk"], json!(true));
    client.portal.accept_licence(false);
    let answer = client.get_as_user(url).answer().await;
    assert_eq!(answer.json()["profile"]["icosLicenceOk"], json!(false));

    assert_eq!(client.get(url).answer().await.status, 403);
    let other = "auth:/db/users/other@icosfs.example?keys=%7Bprofile:1%7D";
    assert_eq!(client.get_as_user(other).answer().await.status, 403);
}

#[tokio::test]
async fn portal_use_report_needs_no_login() {
    let client = TestClient::new();
    let report = json!({"cpbFileAccess": {"objects": [], "client": "x", "version": "1"}});
    let answer = client
        .post("auth:/logs/portaluse")
        .json(&report)
        .answer()
        .await;
    assert_eq!(answer.status, 200);
    let answer = client.get("auth:/logs/portaluse").answer().await;
    assert_eq!(answer.status, 400);
}
