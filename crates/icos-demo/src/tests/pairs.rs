//! The protocol page, pair by pair: `pairs.txt` lists each status and body that
//! it specifies. The other tests check meanings and headers.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::support::{TestClient, TestResponse};
use crate::{DemoOptions, DemoRepository, Fault, FaultRule, SparqlLimits};
use icos_portal::ObjectId;

/// The values of the words in braces.
type Names = HashMap<&'static str, String>;

#[tokio::test]
async fn each_pair_of_protocol_page_holds() {
    let client = TestClient::new();
    let names = names(&client).await;
    let mut tried = 0;
    for line in include_str!("pairs.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts: Vec<_> = line.splitn(6, " | ").collect();
        let [section, caller, what, with, status, body] = parts[..] else {
            panic!("expected six columns: {line}");
        };
        let answer = ask(
            &client,
            caller,
            &filled(what, &names),
            &filled(with, &names),
        )
        .await;
        let found = start(&answer);
        assert_eq!(answer.status.to_string(), status, "{line}\n{found}");
        assert!(fits(&answer, &filled(body, &names)), "{line}\n{found}");
        if section.starts_with('4') {
            assert_eq!(answer.header("etag"), "", "{line}");
        }
        tried += 1;
    }
    assert!(tried > 90, "{tried}");
}

/// Section 4: the quota, and queries that take too long. Each pair has its own
/// portal, with shorter periods.
#[tokio::test]
async fn each_quota_pair_of_protocol_page_holds() {
    type Change = fn(&mut SparqlLimits);
    let per_minute: Change = |limits| limits.per_minute = Duration::from_millis(20);
    let per_hour: Change = |limits| limits.per_hour = Duration::from_millis(20);
    let too_long: Change = |limits| limits.longest_query = Duration::from_millis(10);
    let crowd: Change = |limits| (limits.at_once, limits.queue) = (1, 0);
    for (change, before, status, body) in [
        (
            per_minute,
            1,
            503,
            "^ You have exceeded your per-minute query",
        ),
        (
            per_hour,
            1,
            503,
            "^ You have exceeded your hourly query quota.",
        ),
        (crowd, 3, 503, "^ You are banned for service overuse until "),
        (too_long, 1, 400, "= SPARQL execution timeout"),
    ] {
        let mut options = DemoOptions::default();
        change(&mut options.limits);
        let client = TestClient::to(DemoRepository::builtin(1), options);
        let slow = FaultRule::always(Fault::SlowQuery { ms: 50 });
        client.portal.add_fault(slow);
        let ask = |number: usize| {
            let query = format!("select * where {{ ?s a ?type }} limit {number}");
            client.post("meta:/sparql").body(query).answer()
        };
        futures_util::future::join_all((1..=before).map(ask)).await;
        let answer = ask(9).await;
        assert_eq!(answer.status, status, "{}", start(&answer));
        assert!(fits(&answer, body), "{}", start(&answer));
    }

    let limits = SparqlLimits::default();
    let (seconds, minutes) = (Duration::from_secs, Duration::from_mins);
    assert_eq!((limits.at_once, limits.ban), (5, minutes(10)));
    assert_eq!(
        (limits.per_minute, limits.minute),
        (seconds(20), minutes(1))
    );
    assert_eq!((limits.per_hour, limits.hour), (seconds(300), minutes(60)));
    assert_eq!(limits.longest_query, seconds(9));
    assert_eq!(
        (limits.cache_life, limits.cache_entry),
        (minutes(60), 8 << 20)
    );
}

/// `what` is a method and an address.
async fn ask(client: &TestClient, caller: &str, what: &str, with: &str) -> TestResponse {
    let (method, url) = what.split_once(' ').unwrap();
    let request = client.ask(method.parse().unwrap(), url);
    let request = match with.split_once(' ') {
        _ if with == "-" => request,
        Some(("form", text)) => request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(text.to_owned()),
        Some(("json", text)) => request
            .header("content-type", "application/json")
            .body(text.to_owned()),
        Some(("text", text)) => request
            .header("content-type", "text/plain")
            .body(text.to_owned()),
        Some((name, value)) => request.header(name.strip_suffix(':').unwrap(), value),
        None => panic!("{with}"),
    };
    let portal = &client.portal;
    portal.accept_licence(caller != "unlicensed");
    let request = match caller {
        "anyone" => request,
        "user" | "unlicensed" => request.header("cookie", &portal.token()),
        "expired" => {
            let over = portal.mint_token(SignedDuration::from_secs(-1));
            request.header("cookie", &over)
        }
        other => panic!("{other}"),
    };
    request.answer().await
}

fn fits(answer: &TestResponse, body: &str) -> bool {
    let body = body.replace("\\n", "\n");
    match body.split_once(' ') {
        _ if body == "bytes" => !answer.body.is_empty(),
        _ if body == "empty" => answer.body.is_empty(),
        Some(("=", text)) => answer.text() == text,
        Some(("^", text)) => answer.text().starts_with(text),
        Some(("~", text)) => answer.text().contains(text),
        _ => panic!("{body}"),
    }
}

fn start(answer: &TestResponse) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let start: String = text.chars().take(300).collect();
    format!("found {} {start:?}", answer.status)
}

async fn names(client: &TestClient) -> Names {
    let mut names: Names = [
        ("co2", "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip"),
        ("fluxes", "ICOSETC_SE-Htm_FLUXES_L2.csv"),
        ("words", "11SS20230912_SOOP_OTC.csv"),
        ("gzipped", "ICOSETC_SE-Htm_METEOSENS_L2.csv.gz"),
        ("netcdf", "demo_inversion_2023.nc"),
        ("document", "demo handbook.pdf"),
        ("archive", "demo_inversion_supplement.zip"),
        ("unfinished", "SE-Htm_EC_not_uploaded.csv"),
        ("moratorium", "SE-Htm_EC_20991231.csv"),
        ("policy", "HTM_raw_20230501.zip"),
        ("elsewhere", "SE-Htm_EC_elsewhere.csv"),
        ("lost", "SE-Htm_EC_lost.csv"),
    ]
    .map(|(name, file)| (name, client.id(file).to_string()))
    .into();
    let unknown = ObjectId::of_content(b"unknown").to_string();
    let unmatched = "= Your request did not match any service";
    names.insert("unknown", unknown);
    names.insert("user", client.portal.user());
    names.insert("unmatched", unmatched.to_owned());
    names.insert("trace", "~ \n\tat se.lu.nateko.cp.".to_owned());
    of_landing_page(client, &mut names).await;
    requests(&mut names);
    let file = format!("data:/objects/{}", names["netcdf"]);
    let file = client.get(&file).answer().await;
    names.insert("netcdf's etag", file.header("etag").to_owned());
    names
}

/// Other spellings of an id, its older version, its collection.
async fn of_landing_page(client: &TestClient, names: &mut Names) {
    let page = client
        .get(&format!("meta:/objects/{}", names["co2"]))
        .header("accept", "application/json");
    let page = page.answer().await.json();
    let last = |iri: &Value| {
        let iri = iri.as_str().unwrap();
        iri.rsplit('/').next().unwrap().to_owned()
    };
    names.insert("older", last(&page["previousVersion"]));
    let parent = &page["parentCollections"][0]["uri"];
    names.insert("collection", last(parent));

    let hash = page["hash"].as_str().unwrap();
    let base64 = hash.replace('-', "+").replace('_', "/") + "=";
    let digest = STANDARD.decode(&base64).unwrap();
    let hex = digest
        .iter()
        .fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    names.insert("co2 in 43", hash.to_owned());
    let escaped = base64.replace('+', "%2B").replace('/', "%2F");
    names.insert("co2 in 44", escaped);
    names.insert("co2 in hex", hex[..36].to_owned());
    names.insert("co2 in full hex", hex);
}

/// Requests for columns, valid and invalid.
fn requests(names: &mut Names) {
    let good = json!({
        "tableId": names["co2"], "subFolder": "asciiAtcProductTimeSer",
        "schema": {"columns": ["CHAR", "INT", "FLOAT", "DOUBLE", "FLOAT"], "size": 8760},
        "columnNumbers": [4],
    });
    for (name, field, value) in [
        ("request", "columnNumbers", json!([4])),
        ("request for a column too many", "columnNumbers", json!([5])),
        ("request to a wrong folder", "subFolder", json!("elsewhere")),
        (
            "request for the unknown",
            "tableId",
            json!(names["unknown"]),
        ),
    ] {
        let mut request = good.clone();
        request[field] = value;
        names.insert(name, request.to_string());
    }
}

fn filled(text: &str, names: &Names) -> String {
    let mut text = text.to_owned();
    for (name, value) in names {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}
