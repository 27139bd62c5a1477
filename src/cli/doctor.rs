//! `icosfs doctor`: checks all requirements of a mount, and prints the command that
//! fixes each failed check.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::credentials::CredentialArgs;
use super::failure::without_error_number;
use super::log::control::runtime_folder;
use super::mount::mountpoint::is_dead;
use super::mount_context::owned_by;
use super::output::{self, OutputError, print_json, print_line};
use super::serve::client;
use super::serve::files::{ServerRecord, all_running};
use super::settings::{GlobalArgs, for_each_service};
use super::shared_cache::SharedCacheArgs;
use super::terminal::{escape_control, size, wrapped};
use super::waiting::block_on_while;
use crate::mount::mountinfo;
use crate::mount::mountinfo::MountEntry;
#[cfg(feature = "fuse")]
use crate::mount::{Access, missing_requirement};
use icos_portal::account::LicenceStatus;
use icos_portal::auth::TokenProvider;
use icos_portal::http::Http;
use icos_portal::{Account, Service, Services};

/// Timeout for the status of a server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout of each request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Tolerated difference between the clocks of this machine and the portal. Tokens
/// expire by the clock.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(2);
/// Free space, in bytes, below which the cache gets a note.
const MIN_FREE: u64 = 1 << 30;

/// Arguments of `icosfs doctor`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line is the result of a check: ok, note, or BAD with a fix. The exit code is 1 \
if a check failed.")]
pub(super) struct DoctorArgs {
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: CredentialArgs,
    #[command(flatten)]
    shared: SharedCacheArgs,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Note,
    Bad,
}

/// The result of a check.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    /// The command or action that fixes it.
    remedy: Option<String>,
}

impl Finding {
    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, what, found.into(), None)
    }

    fn note(what: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Note, what, found.into(), Some(remedy.into()))
    }

    fn bad(what: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Verdict::Bad, what, found.into(), Some(remedy.into()))
    }

    fn new(verdict: Verdict, what: &str, found: String, remedy: Option<String>) -> Self {
        Self {
            what: what.to_owned(),
            verdict,
            found,
            remedy,
        }
    }
}

/// Runs all checks. `broken` is the error in `config.toml`, if any.
pub(super) fn run(
    global: &GlobalArgs,
    args: DoctorArgs,
    broken: Option<anyhow::Error>,
) -> anyhow::Result<()> {
    let DoctorArgs {
        json,
        login,
        shared,
    } = args;
    let services = global.services()?;
    let mut findings = vec![
        match broken {
            None => Finding::ok("settings", "`icosfs config show` lists them"),
            Some(error) => Finding::bad("settings", format!("{error:#}"), "correct the file"),
        },
        check_kernel(),
        #[cfg(feature = "fuse")]
        check_fuse(),
        #[cfg(feature = "fuse")]
        check_other_users(),
        check_cache_disk(&global.cache_dir()?.join(services.cache_name())),
    ];
    findings.extend(check_shared_cache(shared)?);
    findings.extend(check_mounts());
    findings.extend(check_servers(&global.cache_dir()?));
    let http = global.http()?;
    let check = async { Ok(check_services(&http, &services).await) };
    let services_found = block_on_while("probing the services", check)?;
    let is_offline = (services_found.iter())
        .filter(|finding| {
            Service::ALL
                .iter()
                .any(|service| service.to_string() == finding.what)
        })
        .all(|finding| finding.verdict == Verdict::Bad);
    findings.extend(services_found);
    let auth = global.login(login, &http, &services);
    let check = async { Ok(check_login(http.clone(), services.clone(), auth).await) };
    if is_offline {
        // A login that fails now says nothing about the login.
        let remedy = "repeat this command once a service responds";
        findings.push(Finding::note(
            "login",
            "not tested without the network",
            remedy,
        ));
    } else {
        findings.extend(block_on_while("checking the login", check)?);
    }
    if json {
        print_json(&findings)?;
    } else {
        findings.iter().try_for_each(print)?;
    }
    let failed = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad);
    match failed.count() {
        0 => Ok(()),
        1 => bail!("1 check failed; see the suggested fix above"),
        failed => bail!("{failed} checks failed; see the suggested fixes above"),
    }
}

/// The column of what was found.
const FOUND: usize = 21;

fn print(finding: &Finding) -> Result<(), OutputError> {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Note => "note",
        Verdict::Bad => "BAD ",
    };
    let (what, found) = (&finding.what, escape_control(&finding.found));
    let colour = match finding.verdict {
        Verdict::Ok => "32",
        Verdict::Note => "33",
        Verdict::Bad => "1;31",
    };
    let verdict = if output::has_colours() {
        format!("\x1b[{colour}m{verdict}\x1b[0m")
    } else {
        verdict.to_owned()
    };
    let width = output::width_of_text();
    // Without the verdict, which may have colours.
    let found = without_error_number(&format!("{:6}{what:<14} {found}", ""));
    let found = wrapped(&found, width, FOUND);
    print_line!("{verdict}  {}", &found[6..])?;
    if let Some(remedy) = &finding.remedy {
        let remedy = format!("{:FOUND$}-> {}", "", escape_control(remedy));
        print_line!("{}", wrapped(&remedy, width, FOUND + 3))?;
    }
    Ok(())
}

fn check_kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let found = format!("Linux {}", release.trim());
    let mut numbers = (release.split(['.', '-'])).map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let mapped = ": programs that map files (polars, R) need files of known size";
    let passthrough = ", reads complete files directly (passthrough) for mounts by root";
    match version {
        (6, 9..) | (7.., _) => Finding::ok("kernel", found + passthrough),
        (6, 6..) => Finding::ok("kernel", found),
        _ => Finding::note(
            "kernel",
            found + mapped,
            "use Linux 6.6 or later, or read such files once before, e.g. with `wc`",
        ),
    }
}

#[cfg(feature = "fuse")]
fn check_fuse() -> Finding {
    let Some(missing) = missing_requirement(Access::Owner) else {
        return Finding::ok("fuse", "this user can mount");
    };
    let text = missing.to_string();
    let (found, remedy) = text.split_once("; ").unwrap_or((&text, ""));
    Finding::bad("fuse", found, remedy)
}

#[cfg(feature = "fuse")]
fn check_other_users() -> Finding {
    if missing_requirement(Access::Everyone).is_none() {
        return Finding::ok("other users", "can get access with --allow-other");
    }
    let found = "cannot get access to a mount, not even root";
    let remedy = "to allow it, run as root: echo user_allow_other >> /etc/fuse.conf";
    Finding::note("other users", found, remedy)
}

fn check_cache_disk(cache: &Path) -> Finding {
    let existing = cache.ancestors().find(|folder| folder.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    let shown = existing.display();
    if access(existing, AccessFlags::W_OK).is_err() {
        let found = format!("{shown} is not writable");
        let remedy = "choose another folder with --cache-dir, or `cache-dir` in config.toml";
        return Finding::bad("cache", found, remedy);
    }
    let disk = match nix::sys::statvfs::statvfs(existing) {
        Ok(disk) => disk,
        Err(error) => {
            let remedy = "choose another folder with --cache-dir";
            return Finding::bad("cache", format!("{shown}: {error}"), remedy);
        }
    };
    #[allow(clippy::useless_conversion)] // Needed on 32-bit targets.
    let free = u64::from(disk.blocks_available()) * u64::from(disk.fragment_size());
    let found = format!("{}, {} free on its disk", cache.display(), size(free));
    if free < MIN_FREE {
        let remedy = "free some space, or choose another folder with --cache-dir";
        return Finding::note("cache", found, remedy);
    }
    Finding::ok("cache", found)
}

/// Reads and writes the shared cache, if there is one.
fn check_shared_cache(shared: SharedCacheArgs) -> anyhow::Result<Option<Finding>> {
    let what = "shared cache";
    let remedy = "check --shared-cache, and the permissions there";
    let cache = match shared.open(0, &std::env::temp_dir()) {
        Ok(None) => return Ok(None),
        Ok(Some(cache)) => cache,
        Err(error) => return Ok(Some(Finding::bad(what, format!("{error:#}"), remedy))),
    };
    let probe = async { Ok((cache.probe().await, cache.probe_leases().await)) };
    let (probed, leases) = block_on_while("testing the shared cache", probe)?;
    let status = cache.status();
    let location = status.location;
    Ok(Some(match probed {
        Err(error) => Finding::bad(what, format!("{location}: {error}"), remedy),
        Ok(()) if let Err(error) = leases => match status.lease_server {
            Some(server) => {
                let found = format!("its leases in {server}: {error}");
                let remedy = "check --shared-leases and --shared-leases-password-file";
                Finding::bad(what, found, remedy)
            }
            None => Finding::bad(what, format!("{location}: {error}"), remedy),
        },
        Ok(()) if status.keyed && status.reads_only => Finding::ok(
            what,
            format!("{location} can be read, with a key; this machine does not write it"),
        ),
        Ok(()) if status.keyed => Finding::ok(
            what,
            format!("{location} can be read and written, with a key"),
        ),
        Ok(()) => Finding::note(
            what,
            format!("{location} can be read and written; only originals are shared"),
            "to share tables, too: icosfs cluster init FILE, then --shared-key-file FILE",
        ),
    }))
}

fn check_mounts() -> Vec<Finding> {
    let check = |mount: MountEntry| {
        let shown = mount.mountpoint.display();
        if !mount.is_trusted() {
            return Finding::ok("mount", format!("{shown}, {}", owned_by(mount.owner)));
        }
        if is_dead(&mount.mountpoint) {
            let found = format!("{shown} is dead: its process has ended");
            return Finding::bad("mount", found, format!("icosfs unmount {shown}"));
        }
        Finding::ok("mount", format!("{shown}; see `icosfs status {shown}`"))
    };
    match mountinfo::mounts_without_binds().unwrap_or_default() {
        all if all.is_empty() => vec![Finding::ok("mounts", "none")],
        all => all.into_iter().map(check).collect(),
    }
}

fn check_servers(cache_dir: &Path) -> Vec<Finding> {
    let check = |server: ServerRecord| {
        let shown = server.shown();
        match client::get(&server, "/.icosfs/status.json", SERVER_TIMEOUT) {
            Ok(_) => Finding::ok("server", format!("{shown}; see `icosfs status`")),
            Err(error) => {
                let found = format!("{shown} does not respond: {error:#}");
                Finding::bad("server", found, format!("kill {}", server.pid))
            }
        }
    };
    let servers = all_running(&runtime_folder(cache_dir));
    servers.into_iter().map(check).collect()
}

async fn check_services(http: &Http, services: &Services) -> Vec<Finding> {
    let check = async |service| check_service(http, services, service).await;
    let checked = for_each_service(check).await;
    let now = checked.iter().find_map(|(_, date)| *date);
    let clock = match now.map(|now| Timestamp::now().duration_since(now)) {
        None => Finding::note("clock", "no service sent its time", "see above"),
        Some(off) if off.abs() > MAX_CLOCK_SKEW => {
            let seconds = off.as_secs_f64();
            let found =
                format!("{seconds:.0} s off the clock of the portal: logins may seem expired");
            Finding::bad("clock", found, "timedatectl set-ntp true")
        }
        Some(_) => Finding::ok("clock", "agrees with the clock of the portal"),
    };
    let services = checked.into_iter().map(|(finding, _)| finding);
    services.chain([clock]).collect()
}

/// Resolves the name of one service and probes it. Returns the time in its response
/// as well.
async fn check_service(
    http: &Http,
    services: &Services,
    service: Service,
) -> (Finding, Option<Timestamp>) {
    let url = services.base(service);
    let what = service.to_string();
    let host = url.host_str().unwrap_or_default();
    let address = (
        host.trim_matches(['[', ']']),
        url.port_or_known_default().unwrap_or(443),
    );
    // A proxy resolves the name; this machine may be unable to.
    let by_proxy = http.has_proxy() && url.scheme() == "https";
    if !by_proxy {
        let lookup = tokio::net::lookup_host(address);
        match tokio::time::timeout(REQUEST_TIMEOUT, lookup).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let found = format!("cannot resolve {host}: {error}");
                let remedy =
                    format!("check the network and /etc/resolv.conf; `getent hosts {host}`");
                return (Finding::bad(&what, found, remedy), None);
            }
            Err(_elapsed) => {
                let found = format!("timeout while resolving {host}");
                return (Finding::bad(&what, found, "check /etc/resolv.conf"), None);
            }
        }
    }
    match http.probe(services, service, REQUEST_TIMEOUT).await {
        Ok(probe) => {
            let way = if by_proxy { " through the proxy" } else { "" };
            let found = format!("{url} responds in {} ms{way}", probe.took.as_millis());
            (Finding::ok(&what, found), probe.date)
        }
        Err(error) => {
            let text = error.to_string();
            let remedy = if text.to_lowercase().contains("certificate") {
                "apt-get install ca-certificates; behind a TLS proxy, add its certificate there"
                    .to_owned()
            } else if by_proxy {
                format!("run `curl -v {url}`; check the proxy that HTTPS_PROXY names")
            } else {
                format!("run `curl -v {url}`; check HTTPS_PROXY, and for a firewall")
            };
            (Finding::bad(&what, text, remedy), None)
        }
    }
}

async fn check_login(
    http: Http,
    services: Services,
    auth: anyhow::Result<Option<Arc<dyn TokenProvider>>>,
) -> Vec<Finding> {
    let bad = |reason: String| vec![Finding::bad("login", reason, "icosfs login")];
    let anonymous = "none: metadata and free objects only";
    let anonymous = || vec![Finding::note("login", anonymous, "icosfs login")];
    let auth = match auth {
        Ok(Some(auth)) => auth,
        Ok(None) => return anonymous(),
        Err(error) => return bad(format!("{error:#}")),
    };
    let account = Account::new(http, services, auth);
    if account.login_state().await.is_none() {
        return anonymous();
    }
    // Verifies the login, which may have to log in first.
    let checked = tokio::time::timeout(REQUEST_TIMEOUT, account.check_licence()).await;
    let login = account.status().await.map(|status| status.to_string());
    let login = login.unwrap_or_default();
    match checked {
        Err(_elapsed) => vec![Finding::bad("login", "no response", "try again later")],
        Ok(Err(error)) => bad(error.to_string()),
        Ok(Ok(licence)) => vec![
            Finding::ok("login", login),
            match licence {
                LicenceStatus::Accepted => Finding::ok("licence", "accepted"),
                LicenceStatus::NotAccepted => Finding::bad(
                    "licence",
                    "not accepted: data cannot be read",
                    format!("accept it in your profile at {}", account.page()),
                ),
            },
        ],
    }
}
