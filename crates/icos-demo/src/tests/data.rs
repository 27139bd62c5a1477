use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::support::TestClient;
use icos_portal::ObjectId;

const HTM_CO2: &str = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";

// Section 3, `GET /objects/<id>`.

#[tokio::test]
async fn originals_hash_to_their_ids() {
    let client = TestClient::new();
    let repository = client.portal.repository();
    let mut seen = 0;
    for id in repository.objects() {
        let answer = client
            .get_as_user(&format!("data:/objects/{id}"))
            .answer()
            .await;
        if answer.status == 200 {
            assert_eq!(ObjectId::of_content(&answer.body), id);
            let digest: [u8; 32] = Sha256::digest(&answer.body).into();
            let json = client
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
async fn original_without_login_redirects_to_licence_page() {
    let client = TestClient::new();
    let id = client.id(HTM_CO2);
    let url = format!("data:/objects/{id}");
    let expired = client
        .portal
        .mint_token(jiff::SignedDuration::from_secs(-1));
    for request in [
        client.get(&url),
        client.get(&url).header("cookie", &expired),
    ] {
        let answer = request.answer().await;
        assert_eq!(answer.status, 302);
        let expected = format!("/licence?ids=%5B%22{id}%22%5D");
        assert_eq!(answer.header("location"), expected);
        assert!(answer.text().to_lowercase().contains("licence"));
    }
    client.portal.accept_licence(false);
    assert_eq!(client.get_as_user(&url).answer().await.status, 302);
}

#[tokio::test]
async fn public_domain_objects_and_documents_need_no_login() {
    let client = TestClient::new();
    for name in ["demo_inversion_2023.nc", "demo handbook.pdf"] {
        let id = client.id(name);
        let answer = client.get(&format!("data:/objects/{id}")).answer().await;
        assert_eq!(answer.status, 200, "{name}");
        assert_eq!(
            answer.body,
            client.portal.repository().original(&id).unwrap()
        );
    }
}

#[tokio::test]
async fn range_of_original_returns_that_part() {
    let client = TestClient::new();
    let id = client.id("demo_inversion_2023.nc");
    let url = format!("data:/objects/{id}");
    let whole = client.portal.repository().original(&id).unwrap();
    let full = client.get(&url).answer().await;
    assert_eq!(full.header("accept-ranges"), "bytes");
    assert_eq!(full.header("content-length"), whole.len().to_string());

    let answer = client
        .get(&url)
        .header("range", "bytes=1048000-1049999")
        .answer()
        .await;
    assert_eq!(answer.status, 206);
    assert!(answer.body == whole[1_048_000..1_050_000]);
    let content_range = format!("bytes 1048000-1049999/{}", whole.len());
    assert_eq!(answer.header("content-range"), content_range);

    for (validator, status) in [(full.header("etag"), 206), ("\"other\"", 200)] {
        let answer = client
            .get(&url)
            .header("range", "bytes=0-9")
            .header("if-range", validator)
            .answer()
            .await;
        assert_eq!(answer.status, status);
    }
    let answer = client
        .get(&url)
        .header("if-none-match", full.header("etag"))
        .answer()
        .await;
    assert_eq!((answer.status, answer.body.len()), (304, 0));
}

#[tokio::test]
async fn an_unsatisfiable_range_is_a_404() {
    let client = TestClient::new();
    let id = client.id("demo_inversion_2023.nc");
    let answer = client
        .get(&format!("data:/objects/{id}"))
        .header("range", "bytes=99999999-")
        .answer()
        .await;
    answer.assert(404, "Your request did not match any service");
}

// Section 3, `GET /csv/<id>` and `POST /cpb`.

#[tokio::test]
async fn csv_requires_login_then_licence() {
    let client = TestClient::new();
    let url = format!("data:/csv/{}", client.id(HTM_CO2));
    let login = "ICOS data portal login is required for CSV downloads";
    client.get(&url).answer().await.assert(401, login);
    client.portal.accept_licence(false);
    client.get_as_user(&url).answer().await.assert(
        403,
        "Accepting data licence in your user profile is required for CSV downloads",
    );
    client.portal.accept_licence(true);
    for bad in ["?limit=ten", "?offset=1.5", "?limit=3000000000"] {
        let answer = client.get_as_user(&format!("{url}{bad}")).answer().await;
        answer.assert(401, login);
    }
}

#[tokio::test]
async fn csv_has_requested_columns() {
    let client = TestClient::new();
    let url = format!("data:/csv/{}", client.id(HTM_CO2));
    let get = async |query: &str| {
        let answer = client.get_as_user(&format!("{url}{query}")).answer().await;
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
async fn csv_without_named_columns_has_mandatory_columns() {
    let client = TestClient::new();
    let url = format!(
        "data:/csv/{}?limit=0",
        client.id("11SS20230410_SOOP_OTC.csv")
    );
    let answer = client.get_as_user(&url).answer().await;
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
async fn csv_of_unknown_object_or_non_table_or_string_table_fails() {
    let client = TestClient::new();
    let unknown = ObjectId::of_content(b"unknown");
    for id in [
        unknown,
        client.id("demo_inversion_2023.nc"),
        client.id("11SS20230912_SOOP_OTC.csv"),
    ] {
        let answer = client
            .get_as_user(&format!("data:/csv/{id}"))
            .answer()
            .await;
        assert_eq!(answer.status, 500, "{}", answer.text());
    }
}

/// The request for all columns of the HTM CO2 table.
fn co2_request(client: &TestClient) -> serde_json::Value {
    json!({
        "tableId": client.id(HTM_CO2).to_string(),
        "subFolder": "asciiAtcProductTimeSer",
        // Flag, NbPoints, Stdev, TIMESTAMP, co2
        "schema": {"columns": ["CHAR", "INT", "FLOAT", "DOUBLE", "FLOAT"], "size": 8760},
        "columnNumbers": [0, 1, 2, 3, 4],
    })
}

#[tokio::test]
async fn all_columns_equal_stored_file_without_trailer() {
    let client = TestClient::new();
    let answer = client
        .post_as_user("data:/cpb")
        .json(&co2_request(&client))
        .answer()
        .await;
    assert_eq!(answer.status, 200);
    let file = client.portal.repository().cpb(&client.id(HTM_CO2)).unwrap();
    assert_eq!(file.len(), 8760 * 22 + 10);
    assert_eq!(answer.header("content-length"), (8760 * 22).to_string());
    assert!(answer.body == file[..8760 * 22]);
    assert_eq!(file[8760 * 22..], [0xAC, 0xED, 0, 5, 0x77, 4, 0, 0, 0, 0]);
}

#[tokio::test]
async fn slice_returns_that_part_of_each_column() {
    let client = TestClient::new();
    let mut request = co2_request(&client);
    request["columnNumbers"] = json!([4, 1]);
    request["slice"] = json!({"offset": 100, "length": 7});
    let answer = client
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    let file = client.portal.repository().cpb(&client.id(HTM_CO2)).unwrap();
    let co2 = 8760 * 18 + 100 * 4;
    let points = 8760 * 2 + 100 * 4;
    assert_eq!(
        answer.body,
        [&file[co2..co2 + 28], &file[points..points + 28]].concat()
    );
}

#[tokio::test]
async fn cpb_slice_out_of_range_is_not_rejected() {
    let client = TestClient::new();
    let mut request = co2_request(&client);
    request["columnNumbers"] = json!([4]);
    // A short range across the end is padded with zeros;
    request["slice"] = json!({"offset": 8759, "length": 100});
    let answer = client
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    assert_eq!((answer.status, answer.body.len()), (200, 400));
    assert_eq!(answer.body[4..14], [0xAC, 0xED, 0, 5, 0x77, 4, 0, 0, 0, 0]);
    assert!(answer.body[14..].iter().all(|b| *b == 0));
    // a long one fails, as does a negative one;
    for slice in [
        json!({"offset": 8000, "length": 5000}),
        json!({"offset": -999_999, "length": 10}),
    ] {
        request["slice"] = slice;
        let answer = client
            .post_as_user("data:/cpb")
            .json(&request)
            .try_answer()
            .await;
        assert!(answer.is_err());
    }
    // a column that the schema lacks causes an exception.
    request["columnNumbers"] = json!([5]);
    let answer = client
        .post_as_user("data:/cpb")
        .json(&request)
        .answer()
        .await;
    assert_eq!(answer.status, 500);
}

#[tokio::test]
async fn cpb_requires_login_licence_and_valid_request() {
    let client = TestClient::new();
    let request = co2_request(&client);
    client
        .post("data:/cpb")
        .json(&request)
        .answer()
        .await
        .assert(
            401,
            "ICOS data portal login is required for binary downloads",
        );
    let answer = client
        .post_as_user("data:/cpb")
        .json(&json!({"tableId": "x"}))
        .answer()
        .await;
    answer.assert(400, "Expected a proper binary table request");
    client.portal.accept_licence(false);
    client
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
    let client = TestClient::new();
    let id = client.id("demo_inversion_2023.nc");
    for url in [
        "data:/",
        "data:/objects/nohash",
        "data:/nonsense",
        "data:/csv/x",
    ] {
        let answer = client.get_as_user(url).answer().await;
        answer.assert(404, "Your request did not match any service");
    }
    let head = client.ask(reqwest::Method::HEAD, &format!("data:/objects/{id}"));
    assert_eq!(head.answer().await.status, 404);
}
