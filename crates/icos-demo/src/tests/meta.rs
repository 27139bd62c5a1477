use serde_json::{Value, json};

use super::support::{TestClient, TestResponse};
use icos_portal::ObjectId;

const HTM_CO2: &str = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";

async fn json_of(client: &TestClient, path: &str) -> TestResponse {
    client
        .get(&format!("meta:{path}"))
        .header("accept", "application/json")
        .answer()
        .await
}

// Section 4, landing pages.

#[tokio::test]
async fn landing_page_of_object_has_station_columns_and_versions() {
    let client = TestClient::new();
    let id = client.id(HTM_CO2);
    let page = json_of(&client, &format!("/objects/{id}")).await.json();
    assert_eq!(page["fileName"], json!(HTM_CO2));
    assert_eq!(
        page["specification"]["specificDatasetType"],
        json!("StationTimeSeries")
    );
    assert_eq!(
        page["specification"]["format"]["goodFlagValues"],
        json!(["O", "R", "U"])
    );
    let info = &page["specificInfo"];
    assert_eq!(info["acquisition"]["station"]["id"], json!("HTM"));
    assert_eq!(info["acquisition"]["samplingHeight"], json!(150.0));
    assert_eq!(info["nRows"], json!(8760));
    let labels: Vec<_> = info["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["label"])
        .collect();
    assert_eq!(labels, ["TIMESTAMP", "co2", "Stdev", "NbPoints", "Flag"]);
    assert_eq!(
        info["columns"][4]["isFlagFor"][0],
        json!("http://meta.icos-cp.eu/resources/cpmeta/co2atcMoleFrac")
    );
    assert_eq!(
        page["latestVersion"],
        json!(format!("https://meta.icos-cp.eu/objects/{id}"))
    );
    let previous = page["previousVersion"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    let older = json_of(&client, &format!("/objects/{previous}"))
        .await
        .json();
    assert_eq!(older["nextVersion"], page["latestVersion"]);
    assert_eq!(
        page["references"]["licence"]["name"],
        json!("ICOS CCBY4 Data Licence")
    );
    assert!(
        page["references"]["citationString"]
            .as_str()
            .unwrap()
            .starts_with("Lindqvist, A., ")
    );
    assert_eq!(
        page["coverageGeo"]["geometry"]["coordinates"],
        json!([13.4189, 56.0976, 115.0])
    );
}

#[tokio::test]
async fn object_with_two_next_versions_lists_both() {
    let client = TestClient::new();
    let id = client.id("M\u{E4}tdata \"SE-Htm\"; 100%.csv");
    let page = json_of(&client, &format!("/objects/{id}")).await.json();
    assert_eq!(page["nextVersion"].as_array().unwrap().len(), 2);
    assert_eq!(page["latestVersion"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn landing_page_columns_match_complete_names_unlike_ingestion() {
    let client = TestClient::new();
    let id = client.id("ICOSETC_SE-Htm_METEOSENS_L2.csv.gz");
    let page = json_of(&client, &format!("/objects/{id}")).await.json();
    let shown: Vec<_> = page["specificInfo"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["label"].as_str().unwrap())
        .collect();
    assert_eq!(
        shown,
        ["TIMESTAMP", "TS_1_1_1", "TS_2_1_1", "TA", "TS_1_2_1"]
    );
    let csv = client.portal.repository().csv(&id).unwrap();
    let header = csv.lines().next().unwrap();
    assert_eq!(
        header,
        "TIMESTAMP,TS_1_1_1,TS_2_1_1,TA,TS_1_2_1,TS_1_1_1_SD"
    );
}

#[tokio::test]
async fn collections_contain_collections() {
    let client = TestClient::new();
    let id = client.id(HTM_CO2);
    let page = json_of(&client, &format!("/objects/{id}")).await.json();
    let parents = page["parentCollections"].as_array().unwrap();
    assert_eq!(parents.len(), 1, "deprecated collections are not named");
    let uri = parents[0]["uri"].as_str().unwrap();
    let path = uri.strip_prefix("https://meta.icos-cp.eu").unwrap();
    let inner = json_of(&client, path).await.json();
    assert_eq!(inner["title"], json!("Demo Atmosphere Release 2024"));
    let outer = inner["parentCollections"][0]["uri"].as_str().unwrap();
    let outer = outer.strip_prefix("https://meta.icos-cp.eu").unwrap();
    let outer = json_of(&client, outer).await.json();
    let members = outer["members"].as_array().unwrap();
    let collection = members.iter().find(|m| m["res"] == inner["res"]).unwrap();
    assert_eq!(collection["title"], inner["title"]);
}

#[tokio::test]
async fn station_page_includes_staff() {
    let client = TestClient::new();
    let page = json_of(&client, "/resources/stations/AS_HTM").await.json();
    assert_eq!(page["specificInfo"]["_type"], json!("atc"));
    assert_eq!(page["staff"].as_array().unwrap().len(), 2);
    let page = json_of(&client, "/resources/stations/OS_11SS").await.json();
    assert_eq!(page["coverage"]["_type"], json!("Polygon"));
}

#[tokio::test]
async fn unknown_items_return_server_errors() {
    let client = TestClient::new();
    let id = ObjectId::of_content(b"unknown");
    json_of(&client, &format!("/objects/{id}")).await.assert(
        500,
        &format!(
            "Expected exactly one values of property \
            http://meta.icos-cp.eu/ontologies/cpmeta/hasObjectSpec for resource \
            https://meta.icos-cp.eu/objects/{id}, but got 0"
        ),
    );
    json_of(&client, &format!("/collections/{id}"))
        .await
        .assert(
            500,
            &format!("Collection https://meta.icos-cp.eu/collections/{id} does not exist"),
        );
    let answer = json_of(&client, "/resources/stations/XX_NONE").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().ends_with("but got 0"));
    assert_eq!(answer.header("etag"), "");
}

// Section 4, SPARQL.

async fn select(client: &TestClient, query: &str) -> Value {
    let answer = client
        .post("meta:/sparql")
        .header("accept", "application/json")
        .header("content-type", "text/plain")
        .body(query.to_owned())
        .answer()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["results"]["bindings"].clone()
}

#[tokio::test]
async fn sizes_are_longs() {
    let client = TestClient::new();
    let id = client.id(HTM_CO2);
    let bindings = select(
        &client,
        &format!(
            "prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
            select ?size ?same where {{
                <https://meta.icos-cp.eu/objects/{id}> cpmeta:hasSizeInBytes ?size .
                bind(?size as ?same) filter(?size > 1000)
            }} order by ?size"
        ),
    )
    .await;
    let size = client.portal.repository().original(&id).unwrap().len();
    let long = json!({
        "type": "literal",
        "datatype": "http://www.w3.org/2001/XMLSchema#long",
        "value": size.to_string(),
    });
    assert_eq!(bindings, json!([{"size": long, "same": long}]));
}

#[tokio::test]
async fn virtual_properties_are_found() {
    let client = TestClient::new();
    let id = client.id(HTM_CO2);
    let bindings = select(
        &client,
        &format!(
            "prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
            select ?citation ?info ?licence where {{
                values ?dobj {{ <https://meta.icos-cp.eu/objects/{id}> }}
                ?dobj cpmeta:hasCitationString ?citation ; cpmeta:hasBiblioInfo ?info ;
                    <http://purl.org/dc/terms/license> ?licence
            }}"
        ),
    )
    .await;
    let page = json_of(&client, &format!("/objects/{id}")).await.json();
    let found = &bindings[0];
    assert_eq!(
        found["citation"]["value"],
        page["references"]["citationString"]
    );
    let info: Value = serde_json::from_str(found["info"]["value"].as_str().unwrap()).unwrap();
    assert_eq!(info, page["references"]);
    assert_eq!(
        found["licence"]["value"],
        page["references"]["licence"]["url"]
    );
}

#[tokio::test]
async fn invalid_queries_return_400() {
    let client = TestClient::new();
    for body in ["", "select nonsense"] {
        let answer = client.post("meta:/sparql").body(body).answer().await;
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(client.get("meta:/sparql").answer().await.status, 400);
    let answer = client.post("meta:/sparql").body("ask {}").answer().await;
    answer.assert(501, "Boolean queries are not supported yet");
}

#[tokio::test]
async fn query_is_accepted_in_url_and_form() {
    let client = TestClient::new();
    let ask = "select%20%2A%20where%20%7B%20%3Fs%20a%20%3Chttp%3A%2F%2Fmeta.icos-cp.eu%2Fontologies%2Fcpmeta%2FOS%3E%20%7D";
    let by_url = client
        .get(&format!("meta:/sparql?query={ask}"))
        .answer()
        .await;
    let by_form = client
        .post("meta:/sparql")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("query={ask}"))
        .answer()
        .await;
    assert_eq!(
        by_url.json()["results"]["bindings"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(by_url.body, by_form.body);
}

#[tokio::test]
async fn objects_are_found_by_area() {
    let client = TestClient::new();
    let within = async |polygon: &str| {
        let query = format!(
            "prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
            prefix geo: <http://www.opengis.net/ont/geosparql#>
            select distinct ?station where {{
                ?dobj cpmeta:hasObjectSpec ?spec ;
                    cpmeta:wasAcquiredBy/<http://www.w3.org/ns/prov#wasAssociatedWith> ?station .
                ?dobj geo:sfIntersects/geo:asWKT \"{polygon}\"^^geo:wktLiteral .
            }} order by ?station"
        );
        let bindings = select(&client, &query).await;
        let stations = bindings.as_array().unwrap().iter();
        stations
            .map(|b| {
                b["station"]["value"]
                    .as_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    let scania = "POLYGON((12.0 55.0, 15.0 55.0, 15.0 57.0, 12.0 57.0, 12.0 55.0))";
    assert_eq!(within(scania).await, ["AS_HTM", "ES_SE-Htm"]);
    // The corner of the ship's area.
    let channel = "POLYGON((0.0 50.0, 2.3 50.0, 2.3 51.1, 0.0 51.1, 0.0 50.0))";
    assert_eq!(within(channel).await, ["OS_11SS"]);
    let atlantic = "POLYGON((-40.0 30.0, -30.0 30.0, -30.0 40.0, -40.0 30.0))";
    assert!(within(atlantic).await.is_empty());
}

#[tokio::test]
async fn virtual_property_of_unbound_subject_is_not_found() {
    let client = TestClient::new();
    let property = "<http://meta.icos-cp.eu/ontologies/cpmeta/hasCitationString>";
    let bindings = select(
        &client,
        &format!("select * where {{ ?dobj {property} ?c }}"),
    )
    .await;
    assert_eq!(bindings, json!([]));
}

#[tokio::test]
async fn data_types_and_other_resources_have_pages() {
    let client = TestClient::new();
    let page = json_of(&client, "/resources/cpmeta/atcCo2L2DataObject")
        .await
        .json();
    assert_eq!(page["dataLevel"], json!(2));
    assert_eq!(page["datasetSpec"]["resolution"], json!("hourly"));
    let page = json_of(&client, "/resources/organizations/CEC")
        .await
        .json();
    assert!(page["name"].as_str().unwrap().starts_with("Centre for"));
    let page = json_of(&client, "/resources/themes/ocean").await.json();
    assert_eq!(page["label"], json!("Ocean data"));
    assert_eq!(json_of(&client, "/resources/cpmeta/none").await.status, 404);
}

#[tokio::test]
async fn results_have_requested_format() {
    let client = TestClient::new();
    let query =
        "select ?label where { <http://meta.icos-cp.eu/resources/themes/ocean> rdfs:label ?label }";
    for (accept, content_type, text) in [
        (
            "text/csv",
            "text/csv; charset=UTF-8",
            "label\r\nOcean data\r\n",
        ),
        (
            "text/plain",
            "text/tab-separated-values; charset=UTF-8",
            "?label\n\"Ocean data\"\n",
        ),
        (
            "application/xml",
            "application/sparql-results+xml; charset=UTF-8",
            "<literal>Ocean data</literal>",
        ),
        (
            "*/*",
            "application/sparql-results+json; charset=UTF-8",
            "\"value\":\"Ocean data\"",
        ),
    ] {
        let answer = client
            .post("meta:/sparql")
            .header("accept", accept)
            .body(query)
            .answer()
            .await;
        assert_eq!(answer.header("content-type"), content_type);
        assert!(answer.text().contains(text), "{}", answer.text());
    }
    let answer = client
        .post("meta:/sparql")
        .header("accept", "image/png")
        .body(query)
        .answer()
        .await;
    assert_eq!(answer.status, 406);
}
