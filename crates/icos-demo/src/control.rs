//! The control service, which the real portal lacks: another process can set
//! faults, withdraw the licence, take services offline, and read the request
//! record. `GET /` lists its routes.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::{FaultPlan, FaultRule};
use super::http::{DemoReply, DemoRequest, json, text};
use super::server::Handler;
use super::state::PortalState;

const HELP: &str = "The demo portal's control service (JSON bodies)\n\n\
    GET    /faults                          get the fault plan\n\
    PUT    /faults   {\"seed\", \"rules\"}      replace the fault plan\n\
    POST   /faults   {\"fault\", ...}         add a rule\n\
    DELETE /faults                          remove all faults\n\
    GET    /requests                        get the request record\n\
    DELETE /requests                        clear the request record\n\
    PUT    /licence  {\"accepted\": false}    whether the user has accepted the licence\n\
    PUT    /password {\"password\": \"...\"}    change the user's password\n\
    DELETE /tokens                          revoke all tokens\n\
    PUT    /services/auth|meta|data {\"online\": false}\n";

pub(crate) fn handler(state: &Arc<PortalState>) -> Handler {
    let state = Arc::clone(state);
    Arc::new(move |request, _| {
        let state = Arc::clone(&state);
        Box::pin(async move {
            let request = DemoRequest::read(request).await;
            match &request.body_error {
                None => answer(&state, &request).await,
                Some(why) => text(StatusCode::BAD_REQUEST, why),
            }
        })
    })
}

async fn answer(state: &PortalState, request: &DemoRequest) -> DemoReply {
    let faults = &state.faults;
    let done = match (request.method.as_str(), &request.segments()[..]) {
        ("GET", [""]) => return text(StatusCode::OK, HELP),
        ("GET", ["faults"]) => return json(&json!(faults.plan())),
        ("GET", ["requests"]) => return json(&json!(state.recorder.requests())),
        ("PUT", ["faults"]) => body::<FaultPlan>(request).map(|plan| faults.set(plan)),
        ("POST", ["faults"]) => body::<FaultRule>(request).map(|rule| faults.add(rule)),
        ("DELETE", ["faults"]) => {
            faults.set(FaultPlan::default());
            Ok(())
        }
        ("DELETE", ["requests"]) => {
            state.recorder.clear();
            Ok(())
        }
        ("DELETE", ["tokens"]) => {
            state.account().revoke_tokens();
            Ok(())
        }
        ("PUT", ["licence"]) => {
            field(request, "accepted").map(|accepted| state.account().accept_licence(accepted))
        }
        ("PUT", ["password"]) => {
            field(request, "password").map(|password| state.account().password = password)
        }
        ("PUT", ["services", name]) => match (value((*name).into()), field(request, "online")) {
            (Ok(service), Ok(online)) => state.set_online(service, online).await,
            (Err(why), _) | (_, Err(why)) => Err(why),
        },
        _ => return text(StatusCode::NOT_FOUND, HELP),
    };
    match done {
        Ok(()) => text(StatusCode::OK, "OK"),
        Err(why) => text(StatusCode::BAD_REQUEST, why),
    }
}

fn body<T: DeserializeOwned>(request: &DemoRequest) -> Result<T, String> {
    serde_json::from_slice(&request.body).map_err(|e| e.to_string())
}

fn field<T: DeserializeOwned>(request: &DemoRequest, name: &str) -> Result<T, String> {
    let mut fields = body::<Value>(request)?;
    value(fields[name].take()).map_err(|why| format!("{name}: {why}"))
}

fn value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}
