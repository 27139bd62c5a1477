//! The control service, which the real portal does not have: another process
//! can make faults, withdraw the licence, take services down, and read the
//! record. What it offers is said at `/`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::{FaultPlan, FaultRule};
use super::http::{Ask, Reply, json, text};
use super::record::DemoService;
use super::server::Port;
use super::state::Shared;

const HELP: &str = "The demo portal's control service (JSON bodies)\n\n\
    GET    /faults                          the plan in force\n\
    PUT    /faults   {\"seed\", \"rules\"}      puts another in force\n\
    POST   /faults   {\"fault\", ...}         adds a rule\n\
    DELETE /faults                          ends all faults\n\
    GET    /requests                        the requests so far\n\
    DELETE /requests                        forgets them\n\
    PUT    /licence  {\"accepted\": false}    whether the user has accepted the licence\n\
    PUT    /password {\"password\": \"...\"}    the user's password\n\
    DELETE /tokens                          makes all tokens invalid\n\
    PUT    /services/auth|meta|data {\"online\": false}\n";

pub(crate) fn router(shared: &Arc<Shared>, ports: &Arc<[Port; 3]>) -> Router {
    let (shared, ports) = (Arc::clone(shared), Arc::clone(ports));
    Router::new().fallback(move |request: Request<Body>| {
        let (shared, ports) = (Arc::clone(&shared), Arc::clone(&ports));
        async move {
            let ask = Ask::read(request).await;
            match &ask.broken {
                None => answer(&shared, &ports, &ask).await,
                Some(why) => text(StatusCode::BAD_REQUEST, why),
            }
        }
    })
}

async fn answer(shared: &Shared, ports: &Arc<[Port; 3]>, ask: &Ask) -> Reply {
    let faults = &shared.faults;
    let done = match (ask.method.as_str(), &ask.segments()[..]) {
        ("GET", [""]) => return text(StatusCode::OK, HELP),
        ("GET", ["faults"]) => return json(&json!(faults.plan())),
        ("PUT", ["faults"]) => body::<FaultPlan>(ask).map(|plan| faults.set(plan)),
        ("POST", ["faults"]) => body::<FaultRule>(ask).map(|rule| faults.add(rule)),
        ("DELETE", ["faults"]) => {
            faults.set(FaultPlan::default());
            Ok(())
        }
        ("GET", ["requests"]) => return json(&json!(shared.recorder.requests())),
        ("DELETE", ["requests"]) => {
            shared.recorder.clear();
            Ok(())
        }
        ("PUT", ["licence"]) => field(ask, "accepted").map(|accepted| {
            shared.account().accept_licence(accepted);
        }),
        ("PUT", ["password"]) => field(ask, "password").map(|password| {
            shared.account().password = password;
        }),
        ("DELETE", ["tokens"]) => {
            shared.account().revoke_tokens();
            Ok(())
        }
        ("PUT", ["services", name]) => match (service(name), field(ask, "online")) {
            (Ok(service), Ok(online)) => set_online(ports, service, online).await,
            (Err(why), _) | (_, Err(why)) => Err(why),
        },
        _ => return text(StatusCode::NOT_FOUND, HELP),
    };
    match done {
        Ok(()) => text(StatusCode::OK, "OK"),
        Err(why) => text(StatusCode::BAD_REQUEST, why),
    }
}

fn body<T: DeserializeOwned>(ask: &Ask) -> Result<T, String> {
    serde_json::from_slice(&ask.body).map_err(|e| e.to_string())
}

fn field<T: DeserializeOwned>(ask: &Ask, name: &str) -> Result<T, String> {
    let mut value = body::<Value>(ask)?;
    serde_json::from_value(value[name].take()).map_err(|e| format!("{name}: {e}"))
}

fn service(name: &str) -> Result<DemoService, String> {
    DemoService::ALL
        .into_iter()
        .find(|service| service.name() == name)
        .ok_or_else(|| format!("expected auth, meta or data, found {name:?}"))
}

async fn set_online(
    ports: &Arc<[Port; 3]>,
    service: DemoService,
    online: bool,
) -> Result<(), String> {
    let ports = Arc::clone(ports);
    // Closing waits for the accepting task to end.
    let work = move || {
        let port = &ports[service as usize];
        if online {
            port.reopen().map_err(|e| e.to_string())
        } else {
            port.close();
            Ok(())
        }
    };
    (tokio::task::spawn_blocking(work).await).unwrap_or_else(|e| Err(e.to_string()))
}
