use serde_json::json;

use super::support::Visit;

// Section 1.

#[tokio::test]
async fn the_right_password_earns_a_cookie_that_the_services_accept() {
    let visit = Visit::new();
    let answer = visit
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
    let whoami = visit
        .get("auth:/whoami")
        .header("cookie", kept)
        .answer()
        .await;
    whoami.assert(200, r#"{"email":"demo@icosfs.example"}"#);
}

#[tokio::test]
async fn a_wrong_password_is_refused_slowly() {
    let visit = Visit::new();
    let start = std::time::Instant::now();
    let answer = visit
        .post("auth:/password/login")
        .form("mail=demo%40icosfs.example&password=wrong")
        .answer()
        .await;
    answer.assert(403, "Incorrect user name or password");
    assert!(start.elapsed().as_millis() >= 500);
    assert_eq!(answer.header("set-cookie"), "");
}

#[tokio::test]
async fn a_login_without_a_field_is_a_bad_request() {
    let visit = Visit::new();
    let answer = visit
        .post("auth:/password/login")
        .form("mail=demo%40icosfs.example")
        .answer()
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn the_auth_service_knows_only_those_with_a_living_token() {
    let visit = Visit::new();
    assert_eq!(visit.get("auth:/whoami").answer().await.status, 401);
    let expired = visit.portal.mint_token(jiff::SignedDuration::from_secs(-1));
    let answer = visit
        .get("auth:/whoami")
        .header("cookie", &expired)
        .answer()
        .await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("has expired"), "{}", answer.text());

    let revoked = visit.portal.token();
    visit.portal.revoke_tokens();
    let answer = visit
        .get("auth:/whoami")
        .header("cookie", &revoked)
        .answer()
        .await;
    assert_eq!(answer.status, 401);
    assert_eq!(visit.get_as_user("auth:/whoami").answer().await.status, 200);
}

#[tokio::test]
async fn the_data_service_says_null_to_strangers() {
    let visit = Visit::new();
    let answer = visit.get("data:/whoami").answer().await;
    answer.assert(200, r#"{"email":null}"#);
    let answer = visit.get_as_user("data:/whoami").answer().await;
    answer.assert(200, r#"{"email":"demo@icosfs.example"}"#);
}

#[tokio::test]
async fn the_profile_tells_its_owner_whether_the_licence_is_accepted() {
    let visit = Visit::new();
    let url = "auth:/db/users/demo@icosfs.example?keys=%7Bprofile:1%7D";
    let answer = visit.get_as_user(url).answer().await;
    assert_eq!(answer.json()["profile"]["icosLicenceOk"], json!(true));
    visit.portal.accept_licence(false);
    let answer = visit.get_as_user(url).answer().await;
    assert_eq!(answer.json()["profile"]["icosLicenceOk"], json!(false));

    assert_eq!(visit.get(url).answer().await.status, 403);
    let other = "auth:/db/users/other@icosfs.example?keys=%7Bprofile:1%7D";
    assert_eq!(visit.get_as_user(other).answer().await.status, 403);
}

#[tokio::test]
async fn anyone_may_report_local_use() {
    let visit = Visit::new();
    let report = json!({"cpbFileAccess": {"objects": [], "client": "x", "version": "1"}});
    let answer = visit
        .post("auth:/logs/portaluse")
        .json(&report)
        .answer()
        .await;
    assert_eq!(answer.status, 200);
    let answer = visit.get("auth:/logs/portaluse").answer().await;
    assert_eq!(answer.status, 400);
}
