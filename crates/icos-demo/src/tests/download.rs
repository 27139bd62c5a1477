//! Section 3: unavailable objects, and archives.

use std::io::{Cursor, Read as _};

use serde_json::json;

use super::support::{TestClient, TestResponse};
use icos_portal::ObjectId;

const HTM_CO2: &str = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";
const ARCHIVE: &str = "demo_inversion_supplement.zip";

#[tokio::test]
async fn unavailable_object_reports_reason() {
    let client = TestClient::new();
    for (name, reason) in [
        (
            "SE-Htm_EC_not_uploaded.csv",
            "Uploading of this object has not been completed.",
        ),
        (
            "SE-Htm_EC_20991231.csv",
            "Data object is under moratorium, will be available at 2099-12-31T00:00:00Z",
        ),
        (
            "HTM_raw_20230501.zip",
            "Data object is not distributed by the Data Portal due to ICOS policies",
        ),
        (
            "SE-Htm_EC_elsewhere.csv",
            "Data object is distributed by third parties",
        ),
        (
            "SE-Htm_EC_lost.csv",
            "File with object contents is missing on the server",
        ),
    ] {
        let url = format!("data:/objects/{}", client.id(name));
        client.get_as_user(&url).answer().await.assert(404, reason);
        assert_eq!(client.get(&url).answer().await.status, 302, "{name}");
    }
    let unknown = ObjectId::of_content(b"unknown");
    let answer = client
        .get_as_user(&format!("data:/objects/{unknown}"))
        .answer()
        .await;
    assert_eq!(answer.status, 404);
    assert!(
        answer
            .text()
            .starts_with("Metadata server error: \nExpected exactly one")
    );
}

#[tokio::test]
async fn only_available_objects_have_an_access_url() {
    let client = TestClient::new();
    for (name, url) in [
        ("SE-Htm_EC_20991231.csv", None),
        ("SE-Htm_EC_not_uploaded.csv", None),
        ("HTM_raw_20230501.zip", None),
        (
            "SE-Htm_EC_elsewhere.csv",
            Some("https://data.example.org/elsewhere.csv".to_owned()),
        ),
        (
            HTM_CO2,
            Some(format!(
                "https://data.icos-cp.eu/objects/{}",
                client.id(HTM_CO2)
            )),
        ),
    ] {
        let page = client
            .get(&format!("meta:/objects/{}", client.id(name)))
            .header("accept", "application/json")
            .answer()
            .await
            .json();
        assert_eq!(page["accessUrl"].as_str(), url.as_deref(), "{name}");
    }
}

#[tokio::test]
async fn unreadable_table_returns_exception() {
    let client = TestClient::new();
    let request = |folder: &str, id: ObjectId| {
        json!({
            "tableId": id.to_string(), "subFolder": folder,
            "schema": {"columns": ["INT"], "size": 1}, "columnNumbers": [0]
        })
    };
    for (folder, id) in [
        ("wrongFolder", client.id(HTM_CO2)),
        ("netcdf", client.id("demo_inversion_2023.nc")),
    ] {
        let answer = client
            .post_as_user("data:/cpb")
            .json(&request(folder, id))
            .answer()
            .await;
        assert_eq!(answer.status, 500);
        let expected = format!("Binary file not found for object {id}\n");
        assert!(answer.text().starts_with(&expected), "{}", answer.text());
    }
    let mut strings = request("asciiAtcProductTimeSer", client.id(HTM_CO2));
    strings["schema"]["columns"] = json!(["STRING"]);
    let answer = client
        .post_as_user("data:/cpb")
        .json(&strings)
        .answer()
        .await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("Only numeric BinTables"));
}

#[tokio::test]
async fn csv_with_negative_rows_breaks_stream() {
    let client = TestClient::new();
    let url = format!("data:/csv/{}", client.id(HTM_CO2));
    for query in ["?offset=-1", "?limit=-1"] {
        let outcome = client
            .get_as_user(&format!("{url}{query}"))
            .try_answer()
            .await;
        assert!(outcome.is_err(), "{query}");
    }
}

#[tokio::test]
async fn unusual_file_names_are_sent_in_ascii_and_utf8() {
    let client = TestClient::new();
    let disposition = async |id: ObjectId| {
        let answer = client
            .get_as_user(&format!("data:/objects/{id}"))
            .answer()
            .await;
        answer.header("content-disposition").to_owned()
    };
    assert_eq!(
        disposition(client.id(HTM_CO2)).await,
        format!("attachment; filename=\"{HTM_CO2}\"")
    );
    assert_eq!(
        disposition(client.id("M\u{E4}tdata \"SE-Htm\"; 100%.csv")).await,
        "attachment; filename=\"M?tdata \\\"SE-Htm\\\"; 100%.csv\"; \
        filename*=UTF-8''M%C3%A4tdata%20%22SE%2DHtm%22%3B%20100%25%2Ecsv"
    );
}

#[tokio::test]
async fn gzipped_csv_is_sent_with_content_encoding() {
    let client = TestClient::new();
    let id = client.id("ICOSETC_SE-Htm_METEOSENS_L2.csv.gz");
    let answer = client
        .get_as_user(&format!("data:/objects/{id}"))
        .answer()
        .await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_eq!(answer.header("content-type"), "text/csv; charset=UTF-8");
    assert_eq!(answer.body[..2], [0x1F, 0x8B]);
}

#[tokio::test]
async fn several_ranges_return_multipart_body() {
    let client = TestClient::new();
    let id = client.id("demo_inversion_2023.nc");
    let whole = client.portal.repository().original(&id).unwrap();
    let url = format!("data:/objects/{id}");
    let ask = async |ranges: &str| client.get(&url).header("range", ranges).answer().await;
    let answer = ask("bytes=0-9,1000-1009").await;
    assert_eq!(answer.status, 206);
    assert!(
        answer
            .header("content-type")
            .starts_with("multipart/byteranges; boundary=")
    );
    for part in [&whole[..10], &whole[1000..1010]] {
        assert!(answer.body.windows(10).any(|window| window == part));
    }
    // Ranges close together are merged.
    let answer = ask("bytes=0-9,50-59").await;
    assert!(answer.body == whole[..60]);
}

#[tokio::test]
async fn failed_precondition_returns_412() {
    let client = TestClient::new();
    let id = client.id("demo handbook.pdf");
    let request = client.get(&format!("data:/objects/{id}"));
    assert_eq!(
        request
            .header("if-match", "\"other\"")
            .answer()
            .await
            .status,
        412
    );
}

// Section 3, ZIP.

#[tokio::test]
async fn zip_entries_are_listed_without_login() {
    let client = TestClient::new();
    let id = client.id(ARCHIVE);
    let answer = client
        .get(&format!("data:/zip/{id}/listContents"))
        .answer()
        .await;
    let entries = answer.json();
    let names: Vec<_> = (entries.as_array().unwrap().iter())
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "readme.txt",
            "figures/fig 1 (final).csv",
            "figures/K\u{F6}ln+100%.txt",
            "data/large.bin",
            "data/empty.txt",
        ]
    );
    assert_eq!(
        entries[1],
        json!({
            "name": "figures/fig 1 (final).csv",
            "path": format!("/zip/{id}/extractFile/figures/fig 1 (final).csv"),
            "size": 8,
        })
    );
}

#[tokio::test]
async fn zip_entry_requires_login_and_licence() {
    let client = TestClient::new();
    let url = format!("data:/zip/{}/extractFile", client.id(ARCHIVE));
    let path = format!("{url}/figures/fig%201%20(final).csv");
    client.get(&path).answer().await.assert(
        401,
        "ICOS data portal login is required for zip entry downloads",
    );
    let answer = client.get_as_user(&path).answer().await;
    answer.assert(200, "x,y\n1,2\n");
    assert_eq!(answer.header("content-length"), "");
    assert_eq!(answer.header("content-type"), "text/csv; charset=UTF-8");
    // A plus is read as a space.
    let plus = format!("{url}/figures/fig+1+(final).csv");
    client
        .get_as_user(&plus)
        .answer()
        .await
        .assert(200, "x,y\n1,2\n");
    // So no spelling selects a name with a plus.
    for name in ["K%C3%B6ln+100%25.txt", "K%C3%B6ln%2B100%25.txt"] {
        let answer = client
            .get_as_user(&format!("{url}/figures/{name}"))
            .answer()
            .await;
        answer.assert(404, "Unknown zip entry");
    }
    client.portal.accept_licence(false);
    client.get_as_user(&path).answer().await.assert(
        403,
        "Accepting the following licence(s) is required for download: \
        http://meta.icos-cp.eu/ontologies/cpmeta/icosLicence",
    );
}

#[tokio::test]
async fn invalid_zip_requests_return_their_own_errors() {
    let client = TestClient::new();
    let id = client.id(ARCHIVE);
    client
        .get(&format!("data:/zip/{id}/other"))
        .answer()
        .await
        .assert(
            404,
            "Only 'listContents' and 'extractFile' services are available for zipped objects",
        );
    client
        .get("data:/zip/x/listContents")
        .answer()
        .await
        .assert(400, "Expected base64Url- or hex-encoded SHA-256 hash");
    let plain = client.id("ICOSETC_SE-Htm_FLUXES_L2.csv");
    let answer = client
        .get(&format!("data:/zip/{plain}/listContents"))
        .answer()
        .await;
    assert_eq!(answer.status, 500);
    let lost = client.id("SE-Htm_EC_lost.csv");
    let answer = client
        .get_as_user(&format!("data:/zip/{lost}/extractFile/a"))
        .answer()
        .await;
    assert_eq!(answer.status, 404);
}

// Section 3, collections; and the data service's batch downloads.

/// The names and contents of an archive.
fn entries(answer: &TestResponse) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(answer.body.clone())).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut entry = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.name().to_owned(), content)
        })
        .collect()
}

/// The path of the collection that has an object.
async fn collection_of(client: &TestClient, id: ObjectId) -> String {
    let page = client
        .get(&format!("meta:/objects/{id}"))
        .header("accept", "application/json")
        .answer()
        .await
        .json();
    let uri = page["parentCollections"][0]["uri"].as_str().unwrap();
    uri.strip_prefix("https://meta.icos-cp.eu")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn collection_is_sent_as_zip_of_all_members() {
    let client = TestClient::new();
    let id = client.id("ICOSETC_SE-Htm_FLUXES_L2.csv");
    let path = collection_of(&client, id).await;
    let answer = client.get(&format!("data:{path}")).answer().await;
    assert_eq!(answer.status, 302);
    let collection = path.rsplit('/').next().unwrap();
    let location = format!("/licence?ids=%5B%22{collection}%22%5D&isColl=true");
    assert_eq!(answer.header("location"), location);

    let answer = client.get_as_user(&format!("data:{path}")).answer().await;
    assert_eq!(answer.header("content-length"), "");
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"Demo Release 2024.zip\""
    );
    let entries = entries(&answer);
    let names: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.contains(&HTM_CO2),
        "members of inner collections: {names:?}"
    );
    assert_eq!(names[names.len() - 2..], ["!TOC.csv", "!LICENCE.pdf"]);
    let repository = client.portal.repository();
    for (name, content) in &entries[..entries.len() - 2] {
        let id = repository.find(name).unwrap();
        assert!(*content == repository.original(&id).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn several_objects_are_sent_as_zip_with_reasons_for_missing_ones() {
    let client = TestClient::new();
    let ids = [
        client.id("every_format.csv"),
        client.id("SE-Htm_EC_lost.csv"),
        client.id("every_format.csv"),
    ];
    let texts: Vec<_> = ids.iter().map(|id| format!("%22{id}%22")).collect();
    let query = format!("ids=%5B{}%5D&fileName=mine", texts.join(","));
    let answer = client
        .get_as_user(&format!("data:/objects?{query}"))
        .answer()
        .await;
    let entries = entries(&answer);
    let names: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "every_format.csv",
            "every_format(1).csv",
            "!TOC.csv",
            "!LICENCE.pdf"
        ]
    );
    let contents = String::from_utf8(entries[2].1.clone()).unwrap();
    let lost = format!(
        "No,SE-Htm_EC_lost.csv,11676/{0},https://hdl.handle.net/11676/{0},\
        File with object contents is missing on the server\n",
        ids[1]
    );
    assert!(contents.contains(&lost), "{contents}");

    assert_eq!(client.get("data:/objects").answer().await.status, 400);
    assert_eq!(
        client
            .get(&format!("data:/objects?{query}"))
            .answer()
            .await
            .status,
        302
    );
    let posted = client
        .post("data:/objects")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("{query}&licenceOk=true"));
    assert_eq!(posted.answer().await.status, 200);
}

#[tokio::test]
async fn licence_accepted_without_login_is_valid_for_one_download() {
    let client = TestClient::new();
    let id = client.id(HTM_CO2);
    let redirection = client.get(&format!("data:/objects/{id}")).answer().await;
    let page = client
        .get(&format!("data:{}", redirection.header("location")))
        .answer()
        .await;
    assert_eq!(page.status, 200);
    let accept = format!("/licence_accept?ids=%5B%22{id}%22%5D");
    assert!(page.text().contains(&accept), "{}", page.text());

    let accepted = client.get(&format!("data:{accept}")).answer().await;
    assert_eq!(accepted.status, 302);
    assert_eq!(accepted.header("location"), format!("/objects/{id}"));
    let cookie = accepted.header("set-cookie");
    assert_eq!(
        cookie,
        format!("CpLicenseAcceptedFor={id}; Path=/objects/{id}")
    );
    let cookie = cookie.split(';').next().unwrap();
    let download = client
        .get(&format!("data:/objects/{id}"))
        .header("cookie", cookie)
        .answer()
        .await;
    assert_eq!(download.status, 200);
    assert!(
        download
            .header("set-cookie")
            .starts_with("CpLicenseAcceptedFor=deleted")
    );
}
