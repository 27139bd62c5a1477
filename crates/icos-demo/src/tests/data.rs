use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::support::Visit;
use icos_portal::ObjectId;

const HTM_CO2: &str = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";

// Section 3, `GET /objects/<id>`.

#[tokio::test]
async fn originals_hash_to_their_ids() {
    let visit = Visit::new();
    let repository = visit.portal.repository();
    let mut seen = 0;
    for id in repository.objects() {
        let answer = visit
            .get_as_user(&format!("data:/objects/{id}"))
            .answer()
            .await;
        if answer.status == 200 {
            assert_eq!(ObjectId::of_content(&answer.body), id);
            let digest: [u8; 32] = Sha256::digest(&answer.body).into();
            let json = visit
                .get(&format!("meta:/objects/{id}"))
                .header("accept", "application/json")
                .answer()
                .await
                .json();
            let hash: ObjectId = json["hash"].as_str().unwrap().parse().unwrap();
            assert!(hash.matches(&digest));
            assert_eq!(json["size"], json!(answer.body.len()));
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen}");
}

#[tokio::test]
async fn originals_send_strangers_to_the_licence_page() {
    let visit = Visit::new();
    let id = visit.id(HTM_CO2);
    let url = format!("data:/objects/{id}");
    let expired = visit.portal.mint_token(jiff::SignedDuration::from_secs(-1));
    for question in [visit.get(&url), visit.get(&url).header("cookie", &expired)] {
        let answer = question.answer().await;
        assert_eq!(answer.status, 302);
        let expected = format!("/licence?ids=%5B%22{id}%22%5D");
        assert_eq!(answer.header("location"), expected);
        assert!(answer.text().to_lowercase().contains("licence"));
    }
    visit.portal.accept_licence(false);
    assert_eq!(visit.get_as_user(&url).answer().await.status, 302);
}

#[tokio::test]
async fn public_domain_objects_and_documents_are_for_anyone() {
    let visit = Visit::new();
    for name in ["demo_inversion_2023.nc", "demo handbook.pdf"] {
        let id = visit.id(name);
        let answer = visit.get(&format!("data:/objects/{id}")).answer().await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(
            answer.body,
            visit.portal.repository().original(&id).unwrap()
        );
    }
}

#[tokio::test]
async fn a_range_of_an_original_is_that_part_of_it() {
    let visit = Visit::new();
    let id = visit.id("demo_inversion_2023.nc");
    let url = format!("data:/objects/{id}");
    let whole = visit.portal.repository().original(&id).unwrap();
    let full = visit.get(&url).answer().await;
    assert_eq!(full.header("accept-ranges"), "bytes");
    assert_eq!(full.header("content-length"), whole.len().to_string());

    let answer = visit
        .get(&url)
        .header("range", "bytes=1048000-1049999")
        .answer()
        .await;
    assert_eq!(answer.status, 206);
    assert!(answer.body == whole[1_048_000..1_050_000]);
    let content_range = format!("bytes 1048000-1049999/{}", whole.len());
    assert_eq!(answer.header("content-range"), content_range);

    for (validator, status) in [(full.header("etag"), 206), ("\"other\"", 200)] {
        let answer = visit
            .get(&url)
            .header("range", "bytes=0-9")
            .header("if-range", validator)
            .answer()
            .await;
        assert_eq!(answer.status, status);
    }
    let answer = visit
        .get(&url)
        .header("if-none-match", full.header("etag"))
        .answer()
        .await;
    assert_eq!((answer.status, answer.body.len()), (304, 0));
}

#[tokio::test]
async fn an_unsatisfiable_range_is_a_404() {
    let visit = Visit::new();
    let id = visit.id("demo_inversion_2023.nc");
    let answer = visit
        .get(&format!("data:/objects/{id}"))
        .header("range", "bytes=99999999-")
        .answer()
        .await;
    answer.assert(404, "Your request did not match any service");
}

// Section 3, `GET /csv/<id>` and `POST /cpb`.

#[tokio::test]
async fn csv_needs_login_then_the_licence() {
    let visit = Visit::new();
    let url = format!("data:/csv/{}", visit.id(HTM_CO2));
    let login = "ICOS data portal login is required for CSV downloads";
    visit.get(&url).answer().await.assert(401, login);
    visit.portal.accept_licence(false);
    visit.get_as_user(&url).answer().await.assert(
        403,
        "Accepting data licence in your user profile is required for CSV downloads",
    );
    visit.portal.accept_licence(true);
    for bad in ["?limit=ten", "?offset=1.5", "?limit=3000000000"] {
        let answer = visit.get_as_user(&format!("{url}{bad}")).answer().await;
        answer.assert(401, login);
    }
}

#[tokio::test]
async fn csv_columns_come_as_asked() {
    let visit = Visit::new();
    let url = format!("data:/csv/{}", visit.id(HTM_CO2));
    let get = async |query: &str| {
        let answer = visit.get_as_user(&format!("{url}{query}")).answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), "");
        answer.text().to_owned()
    };
    let all = get("").await;
    assert!(all.starts_with("TIMESTAMP,co2,Stdev,NbPoints,Flag\n2023-01-01T00:00:00Z,"));
    assert_eq!(all.lines().count(), 8761);
    assert_eq!(get("?limit=0").await, "TIMESTAMP,co2,Stdev,NbPoints,Flag\n");
    let some = get("?col=Flag&col=nonsense&col=co2&col=Flag&offset=2&limit=2").await;
    let expected: Vec<_> = (all.lines().skip(3).take(2))
        .map(|line| {
            let cells: Vec<_> = line.split(',').collect();
            format!("{},{},{}", cells[4], cells[1], cells[4])
        })
        .collect();
    assert_eq!(some, format!("Flag,co2,Flag\n{}\n", expected.join("\n")));
    assert_eq!(
        get("?offset=99999").await,
        "TIMESTAMP,co2,Stdev,NbPoints,Flag\n"
    );
}

#[tokio::test]
async fn csv_without_named_columns_comes_in_an_order_that_only_it_shows() {
    let visit = Visit::new();
    let url = format!(
        "data:/csv/{}?limit=0",
        visit.id("11SS20230410_SOOP_OTC.csv")
    );
    let answer = visit.get_as_user(&url).answer().await;
    let header: Vec<_> = answer.text().trim_end().split(',').collect();
    let mut sorted = header.clone();
    sorted.sort_unstable();
    assert_ne!(header, sorted);
    assert_eq!(
        sorted,
        [
            "Date",
            "Latitude",
            "Longitude",
            "Time",
            "fCO2 [uatm]",
            "fCO2 [uatm] QC Flag"
        ]
    );
}

#[tokio::test]
async fn csv_of_unknown_untabular_and_wordy_objects_fails() {
    let visit = Visit::new();
    let unknown = ObjectId::of_content(b"unknown");
    for id in [
        unknown,
        visit.id("demo_inversion_2023.nc"),
        visit.id("11SS20230912_SOOP_OTC.csv"),
    ] {
        let answer = visit.get_as_user(&format!("data:/csv/{id}")).answer().await;
        assert_eq!(answer.status, 500, "{}", answer.text());
    }
}

/// The request for all columns of the HTM CO2 table.
fn co2_request(visit: &Visit) -> serde_json::Value {
    json!({
        "tableId": visit.id(HTM_CO2).to_string(),
        "subFolder": "asciiAtcProductTimeSer",
        // Flag, NbPoints, Stdev, TIMESTAMP, co2
        "schema": {"columns": ["CHAR", "INT", "FLOAT", "DOUBLE", "FLOAT"], "size": 8760},
        "columnNumbers": [0, 1, 2, 3, 4],
    })
}

#[tokio::test]
async fn all_columns_make_the_stored_file_without_its_end() {
    let visit = Visit::new();
    let answer = visit
        .post_as_user("data:/cpb")
        .json(&co2_request(&visit))
        .answer()
        .await;
    assert_eq!(answer.status, 200);
    let file = visit.portal.repository().cpb(&visit.id(HTM_CO2)).unwrap();
    assert_eq!(file.len(), 8760 * 22 + 10);
    assert_eq!(answer.header("content-length"), (8760 * 22).to_string());
    assert!(answer.body == file[..8760 * 22]);
    assert_eq!(file[8760 * 22..], [0xAC, 0xED, 0, 5, 0x77, 4, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_slice_is_that_part_of_each_column() {
    let visit = Visit::new();
    let mut request = co2_request(&visit);
    request["columnNumbers"] = json!([4, 1]);
    request["slice"] = json!({"offset": 100, "length": 7});
    let answer = visit
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    let file = visit.portal.repository().cpb(&visit.id(HTM_CO2)).unwrap();
    let co2 = 8760 * 18 + 100 * 4;
    let points = 8760 * 2 + 100 * 4;
    assert_eq!(
        answer.body,
        [&file[co2..co2 + 28], &file[points..points + 28]].concat()
    );
}

#[tokio::test]
async fn nobody_checks_a_slice() {
    let visit = Visit::new();
    let mut request = co2_request(&visit);
    request["columnNumbers"] = json!([4]);
    // A short one across the end is filled up with zeros,
    request["slice"] = json!({"offset": 8759, "length": 100});
    let answer = visit
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    assert_eq!((answer.status, answer.body.len()), (200, 400));
    assert_eq!(answer.body[4..14], [0xAC, 0xED, 0, 5, 0x77, 4, 0, 0, 0, 0]);
    assert!(answer.body[14..].iter().all(|b| *b == 0));
    // a long one breaks off, and so does what comes before the start,
    for slice in [
        json!({"offset": 8000, "length": 5000}),
        json!({"offset": -999_999, "length": 10}),
    ] {
        request["slice"] = slice;
        let answer = visit
            .post_as_user("data:/cpb")
            .json(&request)
            .try_answer()
            .await;
        assert!(answer.is_err());
    }
    // and a column that the schema lacks is an exception.
    request["columnNumbers"] = json!([5]);
    let answer = visit
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    assert_eq!(answer.status, 500);
}

#[tokio::test]
async fn cpb_needs_login_licence_and_a_proper_request() {
    let visit = Visit::new();
    let request = co2_request(&visit);
    visit
        .post("data:/cpb")
        .json(&request)
        .answer()
        .await
        .assert(
            401,
            "ICOS data portal login is required for binary downloads",
        );
    let answer = visit
        .post_as_user("data:/cpb")
        .json(&json!({"tableId": "x"}))
        .answer()
        .await;
    answer.assert(400, "Expected a proper binary table request");
    visit.portal.accept_licence(false);
    visit
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await
        .assert(
            403,
            "Accepting data licence in your user profile is required for binary downloads",
        );
}

#[tokio::test]
async fn what_no_route_takes_is_a_404() {
    let visit = Visit::new();
    let id = visit.id("demo_inversion_2023.nc");
    for url in [
        "data:/",
        "data:/objects/nohash",
        "data:/nonsense",
        "data:/csv/x",
    ] {
        let answer = visit.get_as_user(url).answer().await;
        answer.assert(404, "Your request did not match any service");
    }
    let head = visit.ask(reqwest::Method::HEAD, &format!("data:/objects/{id}"));
    assert_eq!(head.answer().await.status, 404);
}
