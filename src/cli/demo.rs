//! `icosfs demo`: runs the demo portal on its own. Also starts the embedded one
//! of `icosfs mount --demo`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::EndedEarly;
use super::output::{self, print_line, print_text};
use super::settings::{Clients, bytes, expect_threads};
use crate::daemon::report::MountLogin;
use crate::demo_portal::{SEED, client_services};
use icos_demo::{
    DemoOptions, DemoPortal, DemoRepository, Fault, FaultPlan, FaultRule, RecordedRequest,
};
use icos_portal::auth::{Credentials, PasswordAuth, Token, TokenAuth, TokenProvider};
use icos_portal::http::Http;
use icos_portal::{Service, Services};

/// Arguments of `icosfs demo`.
#[derive(Args, Debug)]
#[command(after_long_help = FAULTS_HELP)]
pub(super) struct DemoArgs {
    /// Serve the metadata in this folder of RDF dumps instead of the built-in
    /// repository; contents are generated to match
    #[arg(long, value_name = "DIR")]
    rdf: Option<PathBuf>,
    /// First of four consecutive ports to listen on (auth, meta, data,
    /// control); 0 selects free ports
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Delay each response by this many milliseconds
    #[arg(long, value_name = "MS")]
    rtt: Option<u64>,
    /// Limit the bandwidth of all responses together to this many bytes per
    /// second, e.g. 10M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    bandwidth: Option<u64>,
    /// Inject the faults described in this JSON file; see the end of --help
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Add tables that are difficult for clients: each value format with its extreme
    /// values, no row, and one that the portal cannot serve
    #[arg(long, conflicts_with = "rdf")]
    difficult: bool,
    /// Add a table for benchmarks, e.g. 260x350000
    #[arg(long, value_name = "COLUMNSxROWS", value_parser = shape)]
    table: Vec<(usize, u64)>,
    /// Add an original for benchmarks, e.g. 1G
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    file: Vec<u64>,
    /// Add a local file as an object
    #[arg(long, value_name = "FILE")]
    original: Vec<PathBuf>,
}

const FAULTS_HELP: &str = "\
The demo portal is a double of the real services, for workshops, CI and
experiments. It prints one line of JSON with the URLs of its services and the
demo user's name, password and login token. With -v it logs each request. Ctrl-C
stops it.

A fault plan is a seed for random numbers and a list of rules. A rule injects its
fault into requests to a service (auth, meta, data), with a route (the first
segment of the path) and for an object (an id), with a probability and at most
the given number of times. All but the fault are optional:

  {\"seed\": 7, \"rules\": [
    {\"service\": \"data\", \"route\": \"cpb\", \"probability\": 0.2,
     \"fault\": {\"status\": {\"code\": 503, \"retryAfter\": 2}}},
    {\"object\": \"ahVixHqAZvFrgX0iJwMMp__l\", \"times\": 1, \"fault\": \"reset\"}]}

  {\"latency\": {\"ms\": 50, \"jitterMs\": 20}}    delays the response
  {\"bandwidth\": {\"bytesPerSecond\": 1000000}}   limits all bodies together
  {\"status\": {\"code\": 503, \"retryAfter\": 2}}  returns this status instead
  \"close\", \"reset\"                           closes or resets the connection
  {\"resetInBody\": {\"after\": 1000}}           resets within the body
  {\"truncate\": {\"after\": 1000}}              ends the body early
  {\"shorten\": {\"after\": 1000}}               shortens body and header
  {\"stall\": {\"after\": 1000, \"ms\": 5000}}     pauses within the body
  {\"corrupt\": {\"at\": 1000}}                  inverts one byte
  {\"slowQuery\": {\"ms\": 5000}}                delays a SPARQL query
  \"revokeTokens\"                             invalidates all tokens
  {\"withdrawLicence\": {\"ms\": 5000}}          makes the licence not accepted
  {\"down\": {\"ms\": 5000}}                     refuses connections

A fault whose duration \"ms\" is left out lasts forever.

The control service changes faults, licence, tokens and services that are down
while the portal runs. GET / on it prints a description.";

/// Serves until SIGINT or SIGTERM arrives. Prints the URLs and the demo user's
/// login: as one line of JSON, or as instructions on a terminal.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let DemoArgs {
        rdf,
        port,
        rtt,
        bandwidth,
        faults,
        difficult,
        table,
        file,
        original,
    } = args;
    let mut repository = match rdf {
        Some(folder) => DemoRepository::from_rdf(folder)?,
        None if *difficult => DemoRepository::builtin(SEED),
        None => DemoRepository::plausible(SEED),
    };
    for (columns, rows) in table {
        repository.add_table(&format!("table_{columns}x{rows}.csv"), *columns, *rows);
    }
    for bytes in file {
        repository.add_original(&format!("file_{bytes}.bin"), *bytes);
    }
    for path in original {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        repository.add_content(&name.to_string_lossy(), bytes);
    }
    let options = DemoOptions {
        port: *port,
        faults: fault_plan(faults.as_deref(), *rtt, *bandwidth)?,
        on_request: Some(Box::new(log)),
        ..DemoOptions::default()
    };
    expect_threads()?;
    let portal = DemoPortal::start(repository, options).context("cannot start the demo portal")?;
    let line = serde_json::json!({
        "auth": portal.auth_url(),
        "meta": portal.meta_url(),
        "data": portal.data_url(),
        "control": portal.control_url(),
        "user": portal.user(),
        "password": portal.password(),
        "token": portal.token(),
    });
    if output::is_terminal() {
        print_text!("{}", for_a_person(&portal))?;
    } else {
        print_line!("{line}")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Err(EndedEarly::Interrupted.into()),
        }
    })
}

/// Instructions printed on a terminal instead of the JSON.
fn for_a_person(portal: &DemoPortal) -> String {
    let [auth, meta, data] = [portal.auth_url(), portal.meta_url(), portal.data_url()];
    let (control, token) = (portal.control_url(), portal.token());
    let (user, password) = (portal.user(), portal.password());
    format!(
        "The demo portal runs until Ctrl-C; its control service is at {control}.\n\
         Its user is {user}, with the password \"{password}\". In another terminal:\n\n\
         export ICOSFS_AUTH_URL={auth} ICOSFS_META_URL={meta} ICOSFS_DATA_URL={data}\n\
         export ICOSFS_TOKEN={token}\n\
         icosfs mount ~/icos\n"
    )
}

/// The faults of the file, plus those that simulate distance.
fn fault_plan(
    file: Option<&Path>,
    rtt: Option<u64>,
    bandwidth: Option<u64>,
) -> anyhow::Result<FaultPlan> {
    let mut plan = match file {
        None => FaultPlan::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read faults from {}", file.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is not a valid fault plan", file.display()))?
        }
    };
    let latency = rtt.map(|ms| Fault::Latency { ms, jitter_ms: 0 });
    let line = bandwidth.map(|bytes_per_second| Fault::Bandwidth { bytes_per_second });
    let distance = latency.into_iter().chain(line).map(FaultRule::always);
    plan.rules.extend(distance);
    Ok(plan)
}

/// Logs one request.
fn log(request: &RecordedRequest) {
    let ended = request.ended.unwrap_or(request.started);
    tracing::info!(
        service = request.service.name(),
        status = request.status,
        bytes = request.bytes,
        ms = ended.saturating_sub(request.started).as_millis(),
        faults = request.faults.join(" "),
        "{} {}{}",
        request.method,
        request.path,
        if request.complete {
            ""
        } else {
            " (incomplete)"
        },
    );
}

/// Parses a table's shape, such as `260x350000`.
fn shape(text: &str) -> Result<(usize, u64), String> {
    (text.split_once('x'))
        .and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)))
        .ok_or_else(|| "expected columns and rows, such as 260x350000".to_owned())
}

/// Starts a demo portal with the built-in repository, for a mount in this process.
/// Returns it with clients that are logged in as its user.
pub(super) fn start_embedded(http: Http) -> anyhow::Result<(DemoPortal, Clients)> {
    expect_threads()?;
    let portal = DemoPortal::start(DemoRepository::plausible(SEED), DemoOptions::default())
        .context("cannot start the demo portal")?;
    let services = client_services(&portal);
    let token = Token::parse(services.envri(), &portal.token())?;
    let auth = TokenAuth::new(token, "the demo's own user".to_owned(), &services);
    let clients = Clients {
        login_from: MountLogin::Demo,
        ..Clients::new(http, services, Some(Arc::new(auth)))
    };
    Ok((portal, clients))
}

/// The cache folders of an embedded demo portal.
pub(super) fn cache_folders(services: &Services, cache_dir: &Path) -> [PathBuf; 2] {
    [Service::Data, Service::Meta].map(|service| cache_dir.join(services.host_name(service)))
}

/// Removes the cache of an embedded demo portal: it gets new ports, hence a new cache
/// folder, at each start.
pub(super) fn remove_cache(folders: &[PathBuf]) {
    for folder in folders {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The login of the demo portal's user, for a command that uses the portal of a mount.
pub(super) fn login(http: &Http, services: &Services) -> Arc<dyn TokenProvider> {
    let DemoOptions { user, password, .. } = DemoOptions::default();
    let credentials = Credentials::new(user, password.into());
    let source = "the demo's own user".to_owned();
    Arc::new(PasswordAuth::new(
        http.clone(),
        services.clone(),
        credentials,
        source,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_shown_in_the_help_are_valid() {
        let start = FAULTS_HELP.find("{\"seed\"").unwrap();
        let end = FAULTS_HELP.find("]}").unwrap() + 2;
        let plan: FaultPlan = serde_json::from_str(&FAULTS_HELP[start..end]).unwrap();
        assert_eq!(plan.rules.len(), 2);
        let shown = (FAULTS_HELP[end..].lines())
            .filter_map(|line| line.strip_prefix("  ")?.split_once("  "))
            .flat_map(|(faults, _)| {
                let separator = if faults.starts_with('"') { ", " } else { "\n" };
                faults.split(separator)
            });
        let read: Vec<Fault> = shown
            .map(|fault| serde_json::from_str(fault).unwrap())
            .collect();
        assert_eq!(read.len(), 14);
    }

    #[test]
    fn table_shapes_are_parsed() {
        assert_eq!(shape("260x350000"), Ok((260, 350_000)));
        assert!(shape("260").is_err());
    }
}
