//! The auth service: logins, the logged-in user, the user's profile, and usage
//! reports (protocol page, section 1).

use std::time::Duration;

use axum::http::header::SET_COOKIE;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::http::{DemoReply, DemoRequest, append_header, field, reply, text};
use super::state::PortalState;
use icos_portal::Envri;

/// The delay of a failed login or a bad token, against guessing.
const FAILURE_DELAY: Duration = Duration::from_millis(500);

pub(crate) async fn answer(state: &PortalState, request: &DemoRequest) -> DemoReply {
    match (&request.method, &request.segments()[..]) {
        (&Method::POST, ["password", "login"]) => login(state, request).await,
        (&Method::GET, ["whoami"]) => whoami(state, request).await,
        (&Method::GET, ["db", "users", mail]) => profile(state, request, mail).await,
        (_, ["logs", "portaluse"]) => portal_use(request),
        _ => text(
            StatusCode::NOT_FOUND,
            "The requested resource could not be found.",
        ),
    }
}

async fn login(state: &PortalState, request: &DemoRequest) -> DemoReply {
    let form = request.form();
    let field = |name| field(&form, name);
    let (Some(mail), Some(password)) = (field("mail"), field("password")) else {
        return text(
            StatusCode::BAD_REQUEST,
            "Expected 'mail' and 'password' posted as application/x-www-form-urlencoded form fields",
        );
    };
    let Some(token) = state.account().log_in(mail, password) else {
        tokio::time::sleep(FAILURE_DELAY).await;
        return text(StatusCode::FORBIDDEN, "Incorrect user name or password");
    };
    let domain = match state.repository.envri() {
        Envri::Icos | Envri::IcosCities => ".icos-cp.eu",
        Envri::Sites => ".fieldsites.se",
    };
    let name = state.cookie_name();
    let cookie = format!("{name}={token}; Domain={domain}; Path=/; Secure; HttpOnly");
    let mut reply = text(StatusCode::OK, "OK");
    append_header(&mut reply, SET_COOKIE, &cookie);
    reply
}

async fn whoami(state: &PortalState, request: &DemoRequest) -> DemoReply {
    let refused = |why: &str| {
        let context = "Authentication/authorization error while Login control:";
        text(StatusCode::UNAUTHORIZED, format!("{context} {why}"))
    };
    match state.check_login(request) {
        Some(Ok(mail)) => compact(&json!({ "email": mail })),
        Some(Err(why)) => {
            tokio::time::sleep(FAILURE_DELAY).await;
            refused(&why)
        }
        None => refused("authentication cookie missing"),
    }
}

async fn profile(state: &PortalState, request: &DemoRequest, mail: &str) -> DemoReply {
    match state.check_login(request) {
        Some(Ok(own)) if own == mail => compact(&json!({
            "_id": mail,
            "profile": { "icosLicenceOk": state.has_accepted_licence(mail) },
        })),
        Some(Ok(_)) => text(
            StatusCode::FORBIDDEN,
            "Access to other users' documents is forbidden",
        ),
        bad => {
            if bad.is_some() {
                tokio::time::sleep(FAILURE_DELAY).await;
            }
            text(
                StatusCode::FORBIDDEN,
                "Must be logged in with Carbon Portal for this operation",
            )
        }
    }
}

fn portal_use(request: &DemoRequest) -> DemoReply {
    if request.method != Method::POST {
        return text(
            StatusCode::BAD_REQUEST,
            "Expecting only HTTP POST or OPTIONS on this path",
        );
    }
    match serde_json::from_slice::<Value>(&request.body) {
        Ok(Value::Object(_)) => text(StatusCode::OK, "OK"),
        _ => text(
            StatusCode::BAD_REQUEST,
            "The request content was malformed:\nJSON object expected",
        ),
    }
}

fn compact(value: &Value) -> DemoReply {
    reply(StatusCode::OK, "application/json", value.to_string())
}
