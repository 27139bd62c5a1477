//! Refuses requests that are not the user's own: without the secret, by another name of
//! the host (DNS rebinding), and those that a page of another origin makes a browser
//! send. A browser adds the password by itself, so that the secret alone does not stop
//! such pages.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN, REFERER, USER_AGENT};
use hyper::http::request::Parts;

use super::secret::Secret;

/// Says whether a page of this or of another origin caused a request; see the
/// specification "Fetch Metadata Request Headers". Pages cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names by which clients may call a server.
#[derive(Clone, Debug, Default)]
pub struct HostNames(Vec<String>);

impl HostNames {
    /// The names of this machine itself, and `more`.
    #[must_use]
    pub fn new(more: impl IntoIterator<Item = String>) -> Self {
        let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let more = more.into_iter().map(|name| name.to_ascii_lowercase());
        Self(own.into_iter().chain(more).collect())
    }

    /// Whether `authority` is one of the names, or the address `local`, with any port.
    fn include(&self, authority: &str, local: Option<IpAddr>) -> bool {
        let Some(host) = host_of(authority) else {
            return false;
        };
        let is_local = local.is_some() && host.parse().ok() == local;
        is_local || self.0.iter().any(|name| *name == host.to_ascii_lowercase())
    }
}

/// The host in `host[:port]`; of an IPv6 address, without its brackets.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

/// How a connection reaches the server.
#[derive(Clone, Debug)]
pub(super) struct ConnectionInfo {
    /// The server's own address; none on a Unix socket.
    pub(super) local: Option<IpAddr>,
    /// Whether it is encrypted.
    pub(super) is_tls: bool,
    /// Whether a request had the secret: the connection is the user's own.
    pub(super) has_sent_secret: Arc<AtomicBool>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// The header `Host` is missing, occurs twice, or names another machine.
    #[error(
        "the request calls this server by a name that it does not have; use localhost, or start the server with --host-name"
    )]
    WrongHost,
    /// A page of another origin caused the request.
    #[error(
        "a page of another site caused this request; open the address of this server by itself"
    )]
    CrossOrigin,
    /// A browser does not say what caused the request.
    #[error(
        "this browser does not say whether a page of another site caused this request; call the server http://localhost, or start it with TLS"
    )]
    UnknownOrigin,
    /// The secret is missing or wrong.
    #[error(
        "the secret is missing or wrong; send it as a bearer token, or as the password of any user; the server's secret file has it"
    )]
    NoSecret,
}

/// Checks that a request is the user's own.
pub(super) fn check(
    request: &Parts,
    connection: &ConnectionInfo,
    names: &HostNames,
    secret: &Secret,
) -> Result<(), Refusal> {
    let host = single(&request.headers, &HOST).ok_or(Refusal::WrongHost)?;
    let target = request.uri.authority();
    if !names.include(host, connection.local)
        || target.is_some_and(|target| !names.include(target.as_str(), connection.local))
    {
        return Err(Refusal::WrongHost);
    }
    let scheme = if connection.is_tls { "https" } else { "http" };
    let own = format!("{scheme}://{host}");
    // Older browsers say nothing else of the page that a request comes from.
    if request.headers.contains_key(REFERER) {
        let page = single(&request.headers, &REFERER);
        let (scheme, rest) = page
            .and_then(|page| page.split_once("://"))
            .unwrap_or_default();
        let origin = format!(
            "{scheme}://{}",
            rest.split(['/', '?', '#']).next().unwrap_or(rest)
        );
        if !origin.eq_ignore_ascii_case(&own) {
            return Err(Refusal::CrossOrigin);
        }
    }
    if request.headers.contains_key(ORIGIN) {
        let origin = single(&request.headers, &ORIGIN);
        if !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(&own)) {
            return Err(Refusal::CrossOrigin);
        }
    }
    // `none`: the user typed the address, or opened a bookmark.
    if request.headers.contains_key(SEC_FETCH_SITE)
        && !matches!(
            single(&request.headers, &SEC_FETCH_SITE),
            Some("same-origin" | "none")
        )
    {
        return Err(Refusal::CrossOrigin);
    }
    // Without TLS, browsers send the header to this machine's own names only.
    let is_browser = (request.headers.get(USER_AGENT))
        .is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
    let is_trusted = connection.is_tls || HostNames::new([]).include(host, None);
    if is_browser && !is_trusted && !request.headers.contains_key(SEC_FETCH_SITE) {
        return Err(Refusal::UnknownOrigin);
    }
    match single(&request.headers, &AUTHORIZATION) {
        Some(given) if secret.is_in(given) => {
            connection.has_sent_secret.store(true, Ordering::Relaxed);
            Ok(())
        }
        _ => Err(Refusal::NoSecret),
    }
}

/// The value of a header that occurs once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn checked(headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let secret = Secret::parse("0123456789abcdef").unwrap();
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let connection = ConnectionInfo {
            local: Some([192, 0, 2, 7].into()),
            is_tls: false,
            has_sent_secret: Arc::default(),
        };
        let names = HostNames::new(["Hut.example".to_owned()]);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, &connection, &names, &secret)
    }

    const SECRET: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

    #[test]
    fn request_with_the_secret_to_an_own_name_is_accepted() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "192.0.2.7:443",
            "hut.example",
        ] {
            assert_eq!(checked(&[("host", host), SECRET]), Ok(()), "{host}");
        }
    }

    #[test]
    fn request_to_another_name_is_refused() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "192.0.2.8",
            "localhost:80@evil.example",
            "localhost:x",
            "[::1",
            "[::1]x",
        ] {
            let found = checked(&[("host", host), SECRET]);
            assert_eq!(found, Err(Refusal::WrongHost), "{host}");
        }
        assert_eq!(checked(&[SECRET]), Err(Refusal::WrongHost));
        let twice = [("host", "localhost"), ("host", "localhost"), SECRET];
        assert_eq!(checked(&twice), Err(Refusal::WrongHost));
    }

    #[test]
    fn request_that_another_origin_caused_is_refused() {
        let host = ("host", "localhost:8080");
        for own in [
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-site", "same-origin"),
            ("referer", "http://localhost:8080/stations/?a=b"),
            ("referer", "http://localhost:8080"),
        ] {
            assert_eq!(checked(&[host, own, SECRET]), Ok(()), "{own:?}");
        }
        for other in [
            ("origin", "http://localhost:8081"),
            ("origin", "https://localhost:8080"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "anything"),
            ("referer", "http://evil.example/"),
            ("referer", "http://localhost:8081/"),
            ("referer", "https://localhost:8080/"),
            ("referer", "http://localhost:8080@evil.example/"),
            ("referer", "http://localhost:8080.evil.example"),
            ("referer", "localhost:8080"),
            ("referer", ""),
        ] {
            let found = checked(&[host, other, SECRET]);
            assert_eq!(found, Err(Refusal::CrossOrigin), "{other:?}");
        }
    }

    #[test]
    fn browser_that_does_not_say_what_caused_a_request_is_refused() {
        let headers = [
            ("host", "hut.example"),
            ("user-agent", "Mozilla/5.0 (X11) Gecko/20100101"),
            SECRET,
        ];
        assert_eq!(checked(&headers), Err(Refusal::UnknownOrigin));
        let site = ("sec-fetch-site", "none");
        assert_eq!(checked(&[&headers[..], &[site]].concat()), Ok(()));
        let program = ("user-agent", "curl/8.0");
        assert_eq!(checked(&[headers[0], program, SECRET]), Ok(()));
        // File managers call themselves a browser, too.
        let own = ("host", "127.0.0.1:8080");
        assert_eq!(checked(&[own, headers[1], SECRET]), Ok(()));
    }

    #[test]
    fn request_without_the_secret_is_refused() {
        let host = ("host", "localhost");
        assert_eq!(checked(&[host]), Err(Refusal::NoSecret));
        let wrong = ("authorization", "Bearer 0123456789abcdeX");
        assert_eq!(checked(&[host, wrong]), Err(Refusal::NoSecret));
        assert_eq!(checked(&[host, SECRET, wrong]), Err(Refusal::NoSecret));
    }
}
