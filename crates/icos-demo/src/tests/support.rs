//! A portal and a client that sends requests to it.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, redirect};
use serde_json::Value;

use crate::{DemoOptions, DemoPortal, DemoRepository};
use icos_portal::ObjectId;

/// A portal and a client of it.
pub(super) struct TestClient {
    pub(super) portal: DemoPortal,
    client: Client,
}

/// A response.
pub(super) struct TestResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl TestClient {
    pub(super) fn new() -> Self {
        Self::to(DemoRepository::builtin(1), DemoOptions::default())
    }

    pub(super) fn to(repository: DemoRepository, options: DemoOptions) -> Self {
        Self {
            portal: DemoPortal::start(repository, options).unwrap(),
            client: client().build().unwrap(),
        }
    }

    /// Uses a new connection for each request, so that the client repeats none
    /// because a reused connection was closed.
    pub(super) fn without_kept_connections() -> Self {
        Self {
            client: client().pool_max_idle_per_host(0).build().unwrap(),
            ..Self::new()
        }
    }

    pub(super) fn id(&self, file_name: &str) -> ObjectId {
        self.portal.repository().find(file_name).unwrap()
    }

    pub(super) fn get(&self, url: &str) -> TestRequest {
        self.ask(Method::GET, url)
    }

    pub(super) fn post(&self, url: &str) -> TestRequest {
        self.ask(Method::POST, url)
    }

    /// `url` begins with `auth:`, `meta:` or `data:`.
    pub(super) fn ask(&self, method: Method, url: &str) -> TestRequest {
        let (service, path) = url.split_once(':').unwrap();
        let base = match service {
            "auth" => self.portal.auth_url(),
            "meta" => self.portal.meta_url(),
            _ => self.portal.data_url(),
        };
        TestRequest(self.client.request(method, format!("{base}{path}")))
    }

    pub(super) fn ask_url(&self, method: Method, url: &str) -> TestRequest {
        TestRequest(self.client.request(method, url))
    }

    /// A request with a valid cookie.
    pub(super) fn get_as_user(&self, url: &str) -> TestRequest {
        self.get(url).header("cookie", &self.portal.token())
    }

    pub(super) fn post_as_user(&self, url: &str) -> TestRequest {
        self.post(url).header("cookie", &self.portal.token())
    }
}

pub(super) struct TestRequest(RequestBuilder);

impl TestRequest {
    pub(super) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(super) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(super) fn json(self, value: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(value.to_string())
    }

    pub(super) fn form(self, text: &'static str) -> Self {
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(text)
    }

    pub(super) async fn answer(self) -> TestResponse {
        self.try_answer().await.unwrap()
    }

    /// Sends the request once the service accepts connections.
    pub(super) async fn when_it_is_up(self) -> Result<TestResponse, reqwest::Error> {
        loop {
            let again = Self(self.0.try_clone().expect("a body in memory"));
            match again.try_answer().await {
                Err(error) if error.is_connect() => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Returns the response, or an error if it is incomplete.
    pub(super) async fn try_answer(self) -> Result<TestResponse, reqwest::Error> {
        let response = self.0.send().await?;
        Ok(TestResponse {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }
}

impl TestResponse {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(super) fn assert(&self, status: u16, text: &str) {
        let start: String = self.text().chars().take(500).collect();
        assert!(
            (self.status, self.text()) == (status, text),
            "expected {status} {text:?}, found {} {start:?}",
            self.status
        );
    }
}

fn client() -> ClientBuilder {
    static PROVIDER: LazyLock<()> = LazyLock::new(|| {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    LazyLock::force(&PROVIDER);
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
}
