//! The auth service: logins, who is logged in, the user's profile, and reports
//! of local use (protocol page, section 1).

use std::time::Duration;

use axum::http::header::SET_COOKIE;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::http::{Ask, Reply, put, reply, text};
use super::state::Shared;
use icos_portal::Envri;

/// How long a failed login or a bad token takes, to slow guessing down.
const SLOWED: Duration = Duration::from_millis(500);

pub(crate) async fn answer(shared: &Shared, ask: &Ask) -> Reply {
    match (&ask.method, &ask.segments()[..]) {
        (&Method::POST, ["password", "login"]) => login(shared, ask).await,
        (&Method::GET, ["whoami"]) => whoami(shared, ask).await,
        (&Method::GET, ["db", "users", mail]) => profile(shared, ask, mail).await,
        (_, ["logs", "portaluse"]) => portal_use(ask),
        (&Method::GET, ["logout"]) => logout(shared),
        _ => text(
            StatusCode::NOT_FOUND,
            "The requested resource could not be found.",
        ),
    }
}

async fn login(shared: &Shared, ask: &Ask) -> Reply {
    let form = ask.form();
    let field = |name| form.iter().find(|(key, _)| key == name).map(|(_, v)| v);
    let (Some(mail), Some(password)) = (field("mail"), field("password")) else {
        return text(
            StatusCode::BAD_REQUEST,
            "Expected 'mail' and 'password' posted as application/x-www-form-urlencoded form fields",
        );
    };
    let right = {
        let account = shared.account();
        account.mail.eq_ignore_ascii_case(mail) && account.password == *password
    };
    if !right {
        tokio::time::sleep(SLOWED).await;
        return text(StatusCode::FORBIDDEN, "Incorrect user name or password");
    }
    let life = shared.account().token_life;
    let cookie = format!(
        "{}={}; Domain={}; Path=/; Secure; HttpOnly",
        shared.cookie_name(),
        shared.mint(life),
        cookie_domain(shared.repository.envri()),
    );
    let mut reply = text(StatusCode::OK, "OK");
    put(&mut reply, SET_COOKIE, &cookie);
    reply
}

fn cookie_domain(envri: Envri) -> &'static str {
    match envri {
        Envri::Icos | Envri::IcosCities => ".icos-cp.eu",
        Envri::Sites => ".fieldsites.se",
    }
}

async fn whoami(shared: &Shared, ask: &Ask) -> Reply {
    let refused = |why: &str| {
        let context = "Authentication/authorization error while Login control:";
        text(StatusCode::UNAUTHORIZED, format!("{context} {why}"))
    };
    match shared.claims(ask) {
        Some(Ok(mail)) => compact(&json!({ "email": mail })),
        Some(Err(why)) => {
            tokio::time::sleep(SLOWED).await;
            refused(&why)
        }
        None => refused("authentication cookie missing"),
    }
}

async fn profile(shared: &Shared, ask: &Ask, mail: &str) -> Reply {
    match shared.claims(ask) {
        Some(Ok(own)) if own == mail => compact(&json!({
            "_id": mail,
            "profile": { "icosLicenceOk": shared.has_accepted_licence(mail) },
        })),
        Some(Ok(_)) => text(
            StatusCode::FORBIDDEN,
            "Access to other users' documents is forbidden",
        ),
        bad => {
            if bad.is_some() {
                tokio::time::sleep(SLOWED).await;
            }
            text(
                StatusCode::FORBIDDEN,
                "Must be logged in with Carbon Portal for this operation",
            )
        }
    }
}

fn portal_use(ask: &Ask) -> Reply {
    if ask.method != Method::POST {
        return text(
            StatusCode::BAD_REQUEST,
            "Expecting only HTTP POST or OPTIONS on this path",
        );
    }
    match serde_json::from_slice::<Value>(&ask.body) {
        Ok(Value::Object(_)) => text(StatusCode::OK, "OK"),
        _ => text(
            StatusCode::BAD_REQUEST,
            "The request content was malformed:\nJSON object expected",
        ),
    }
}

fn logout(shared: &Shared) -> Reply {
    let cookie = format!(
        "{}=deleted; Expires=Wed, 01 Jan 1800 00:00:00 GMT; Domain={}; Path=/",
        shared.cookie_name(),
        cookie_domain(shared.repository.envri()),
    );
    let mut reply = text(StatusCode::OK, "OK");
    put(&mut reply, SET_COOKIE, &cookie);
    reply
}

fn compact(value: &Value) -> Reply {
    reply(StatusCode::OK, "application/json", value.to_string())
}
