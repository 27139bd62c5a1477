//! A portal and a client, so that the tests read as sentences.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, redirect};
use serde_json::Value;

use crate::{DemoOptions, DemoPortal, Repository};
use icos_portal::ObjectId;

/// A portal with the built-in repository and a client to ask it.
pub(super) struct Visit {
    pub(super) portal: DemoPortal,
    client: Client,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Visit {
    pub(super) fn new() -> Self {
        Self::to(Repository::builtin(1), DemoOptions::default())
    }

    pub(super) fn to(repository: Repository, options: DemoOptions) -> Self {
        Self {
            portal: DemoPortal::start(repository, options).unwrap(),
            client: client().build().unwrap(),
        }
    }

    /// Each request has a connection of its own, so that none is repeated for
    /// having met one that had been cut.
    pub(super) fn without_kept_connections() -> Self {
        Self {
            client: client().pool_max_idle_per_host(0).build().unwrap(),
            ..Self::new()
        }
    }

    pub(super) fn id(&self, file_name: &str) -> ObjectId {
        self.portal.repository().find(file_name).unwrap()
    }

    pub(super) fn get(&self, url: &str) -> Question {
        self.ask(Method::GET, url)
    }

    pub(super) fn post(&self, url: &str) -> Question {
        self.ask(Method::POST, url)
    }

    /// `url` begins with `auth:`, `meta:` or `data:`.
    pub(super) fn ask(&self, method: Method, url: &str) -> Question {
        let (service, path) = url.split_once(':').unwrap();
        let base = match service {
            "auth" => self.portal.auth_url(),
            "meta" => self.portal.meta_url(),
            _ => self.portal.data_url(),
        };
        Question(self.client.request(method, format!("{base}{path}")))
    }

    pub(super) fn ask_url(&self, method: Method, url: &str) -> Question {
        Question(self.client.request(method, url))
    }

    /// A question with a valid cookie.
    pub(super) fn get_as_user(&self, url: &str) -> Question {
        self.get(url).header("cookie", &self.portal.token())
    }

    pub(super) fn post_as_user(&self, url: &str) -> Question {
        self.post(url).header("cookie", &self.portal.token())
    }
}

pub(super) struct Question(RequestBuilder);

impl Question {
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

    pub(super) async fn answer(self) -> Answer {
        self.try_answer().await.unwrap()
    }

    /// The same, once the service accepts connections.
    pub(super) async fn when_it_is_up(self) -> Result<Answer, reqwest::Error> {
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

    /// The answer, or that it broke off.
    pub(super) async fn try_answer(self) -> Result<Answer, reqwest::Error> {
        let response = self.0.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }
}

impl Answer {
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
        // Another test may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    LazyLock::force(&PROVIDER);
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
}
