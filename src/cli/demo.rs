//! `icosfs demo`: the demo portal on its own, and within `icosfs mount --demo`.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::settings::{Clients, bytes};
use icos_demo::{
    DemoOptions, DemoPortal, Fault, FaultPlan, FaultRule, RecordedRequest, Repository,
};
use icos_portal::auth::{Token, TokenAuth};
use icos_portal::http::Http;
use icos_portal::{Service, Services};

/// The built-in repository is the same every time.
const SEED: u64 = 2026;

/// What `icosfs demo` takes.
#[derive(Args, Debug)]
#[command(after_long_help = FAULTS_HELP)]
pub(super) struct DemoArgs {
    /// Metadata to serve instead of the built-in repository: a folder of RDF
    /// dumps; contents are made up to fit
    #[arg(long, value_name = "DIR")]
    rdf: Option<PathBuf>,
    /// First of four ports to listen on (auth, meta, data, control); 0 for any
    /// that are free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Answer as if the portal were so many milliseconds away
    #[arg(long, value_name = "MS")]
    rtt: Option<u64>,
    /// Answer as if all shared a line of this many bytes a second, e.g. 10M
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    bandwidth: Option<u64>,
    /// What shall go wrong: a JSON file, see the end of --help
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Add a table for benchmarks, e.g. 260x350000
    #[arg(long, value_name = "COLUMNSxROWS", value_parser = shape)]
    table: Vec<(usize, u64)>,
    /// Add an original for benchmarks, e.g. 1G
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    file: Vec<u64>,
    /// Add a file of yours as an object
    #[arg(long, value_name = "FILE")]
    original: Vec<PathBuf>,
}

const FAULTS_HELP: &str = "\
The demo portal is a double of the real services, for workshops, for CI and for
trying things out. It prints one line of JSON: where its services are, and the
demo user's name, password and login token. With -v it prints a line for each
request. It ends on Ctrl-C.

Faults are a seed and a list of rules. A rule strikes requests to a service
(auth, meta, data), a route (the path's first segment) and an object (an id),
with a probability and a number of times; all of these may be left out:

  {\"seed\": 7, \"rules\": [
    {\"service\": \"data\", \"route\": \"cpb\", \"probability\": 0.2,
     \"fault\": {\"status\": {\"code\": 503, \"retryAfter\": 2}}},
    {\"object\": \"ahVixHqAZvFrgX0iJwMMp__l\", \"times\": 1, \"fault\": \"reset\"}]}

  {\"latency\": {\"ms\": 50, \"jitterMs\": 20}}    the answer comes later
  {\"bandwidth\": {\"bytesPerSecond\": 1000000}}   bodies share a narrow line
  {\"status\": {\"code\": 503, \"retryAfter\": 2}}  another answer
  \"close\", \"reset\"                           the connection ends before it
  {\"resetInBody\": {\"after\": 1000}}           the connection is reset in it
  {\"truncate\": {\"after\": 1000}}              the body ends early
  {\"shorten\": {\"after\": 1000}}               so does its Content-Length
  {\"stall\": {\"after\": 1000, \"ms\": 5000}}     the body stops coming
  {\"corrupt\": {\"at\": 1000}}                  a byte is inverted
  {\"slowQuery\": {\"ms\": 5000}}                a SPARQL query takes longer
  \"revokeTokens\"                             all tokens so far become invalid
  {\"withdrawLicence\": {\"ms\": 5000}}          the user has not accepted it
  {\"down\": {\"ms\": 5000}}                     the service refuses connections

What lasts for so many milliseconds lasts for ever without them.

The control service can change all this, withdraw the licence, revoke tokens,
and take services down while the portal runs; GET / there says how.";

/// Serves until a signal arrives; prints one JSON line that says where and for
/// whom.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let DemoArgs {
        rdf,
        port,
        rtt,
        bandwidth,
        faults,
        table,
        file,
        original,
    } = args;
    let mut repository = match rdf {
        Some(folder) => Repository::from_rdf(folder)?,
        None => Repository::builtin(SEED),
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
    if std::io::stdout().is_terminal() {
        print!("{}", for_a_person(&portal));
    } else {
        println!("{line}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

/// How a person uses it. (A script gets JSON.)
fn for_a_person(portal: &DemoPortal) -> String {
    let [auth, meta, data] = [portal.auth_url(), portal.meta_url(), portal.data_url()];
    let (control, token) = (portal.control_url(), portal.token());
    let (user, password) = (portal.user(), portal.password());
    format!(
        "A demo portal runs until ctrl-C; faults can be made at {control}.\n\
         Its user is {user}, with the password \"{password}\". In another terminal:\n\n\
         export ICOSFS_AUTH_URL={auth} ICOSFS_META_URL={meta} ICOSFS_DATA_URL={data}\n\
         export ICOSFS_TOKEN={token}\n\
         icosfs mount ~/icos\n"
    )
}

/// The faults of the file, and those that make distance.
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
                .with_context(|| format!("{} holds no faults", file.display()))?
        }
    };
    let latency = rtt.map(|ms| Fault::Latency { ms, jitter_ms: 0 });
    let line = bandwidth.map(|bytes_per_second| Fault::Bandwidth { bytes_per_second });
    let distance = latency.into_iter().chain(line).map(FaultRule::always);
    plan.rules.extend(distance);
    Ok(plan)
}

/// A line for each request.
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
            " (broken off)"
        },
    );
}

/// Reads `260x350000`.
fn shape(text: &str) -> Result<(usize, u64), String> {
    (text.split_once('x'))
        .and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)))
        .ok_or_else(|| "expected columns and rows, such as 260x350000".to_owned())
}

/// A demo portal with the built-in repository, for a mount in this process.
pub(super) struct EmbeddedDemo(DemoPortal);

pub(super) fn start_embedded() -> anyhow::Result<EmbeddedDemo> {
    let portal = DemoPortal::start(Repository::builtin(SEED), DemoOptions::default())
        .context("cannot start the demo portal")?;
    Ok(EmbeddedDemo(portal))
}

impl EmbeddedDemo {
    /// Clients of it, logged in as its user.
    pub(super) fn clients(&self, http: Http) -> anyhow::Result<Clients> {
        let services = services_of(&self.0)?;
        let token = Token::parse(services.envri(), &self.0.token())?;
        let auth = TokenAuth::new(token, "the demo's own user".to_owned(), &services);
        Ok(Clients::new(http, services, Some(Arc::new(auth))))
    }
}

/// The addresses of `portal`'s services.
fn services_of(portal: &DemoPortal) -> anyhow::Result<Services> {
    Ok(Services::of(portal.repository().envri())
        .with(Service::Auth, &portal.auth_url())?
        .with(Service::Meta, &portal.meta_url())?
        .with(Service::Data, &portal.data_url())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_shown_in_the_help_are_read() {
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
    fn tables_are_given_by_their_shape() {
        assert_eq!(shape("260x350000"), Ok((260, 350_000)));
        assert!(shape("260").is_err());
    }
}
