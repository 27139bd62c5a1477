//! `icosfs doctor`: looks at everything that a mount needs, and names the
//! command that mends what is wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::credentials::CredentialArgs;
use super::mount::mountpoint::is_dead;
use super::settings::GlobalArgs;
use super::terminal::{escape_control, size};
use super::waiting::block_on_while;
use crate::mount::{Access, missing_requirement, mountinfo};
use icos_portal::account::LicenceStatus;
use icos_portal::http::Http;
use icos_portal::{Account, Service, Services};

/// How long a service may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tokens expire by the clock.
const SKEW: SignedDuration = SignedDuration::from_mins(2);
/// Less is soon full.
const ROOM: u64 = 1 << 30;

/// What `icosfs doctor` takes.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line is a finding: ok, note, or BAD with what mends it. The exit code is 1 \
if anything is bad.")]
pub(super) struct DoctorArgs {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: CredentialArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Note,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    /// The command, or the deed, that mends it.
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

/// Looks at everything; `broken` is what is wrong with `config.toml`.
pub(super) fn run(
    global: &GlobalArgs,
    args: DoctorArgs,
    broken: Option<String>,
) -> anyhow::Result<()> {
    let DoctorArgs { json, login } = args;
    let services = global.services()?;
    let mut findings = vec![
        match broken {
            None => Finding::ok("settings", "`icosfs config show` lists them"),
            Some(reason) => Finding::bad("settings", reason, "correct the file"),
        },
        kernel(),
        fuse(),
        others(),
        disk(&global.cache_dir()?.join(services.cache_name())),
    ];
    findings.extend(mounts());
    let http = global.http()?;
    findings.extend(block_on_while(
        "asking the services",
        portal(&http, &services),
    )?);
    findings.extend(block_on_while(
        "trying the login",
        account(http, services, login),
    )?);
    if json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        findings.iter().for_each(print);
    }
    match findings
        .iter()
        .filter(|f| f.verdict == Verdict::Bad)
        .count()
    {
        0 => Ok(()),
        1 => bail!("one thing is bad; what mends it is above"),
        bad => bail!("{bad} things are bad; what mends them is above"),
    }
}

fn print(finding: &Finding) {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Note => "note",
        Verdict::Bad => "BAD ",
    };
    println!(
        "{verdict}  {:<14} {}",
        finding.what,
        escape_control(&finding.found)
    );
    if let Some(remedy) = &finding.remedy {
        println!("      {:<14} -> {}", "", escape_control(remedy));
    }
}

fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let found = format!("Linux {}", release.trim());
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 6) {
        return Finding::note(
            "kernel",
            format!("{found}: programs that map files (polars, R) need their sizes known first"),
            "a kernel from 6.6 on; or read such files once, as with `wc`",
        );
    }
    let direct = if version < (6, 9) {
        ""
    } else {
        ", reads complete files by itself as root"
    };
    Finding::ok("kernel", found + direct)
}

fn fuse() -> Finding {
    match missing_requirement(Access::Owner) {
        None => Finding::ok("fuse", "this user can mount"),
        Some(missing) => {
            let text = missing.to_string();
            let (found, remedy) = text.split_once("; ").unwrap_or((&text, ""));
            Finding::bad("fuse", found, remedy)
        }
    }
}

fn others() -> Finding {
    match missing_requirement(Access::Everyone) {
        None => Finding::ok("other users", "can be let in with --allow-other"),
        Some(_) => Finding::note(
            "other users",
            "cannot be let into a mount, not even root",
            "if wanted, as root: echo user_allow_other >> /etc/fuse.conf",
        ),
    }
}

fn disk(cache: &Path) -> Finding {
    let there = cache.ancestors().find(|folder| folder.exists());
    let there = there.unwrap_or(Path::new("/"));
    if access(there, AccessFlags::W_OK).is_err() {
        return Finding::bad(
            "cache",
            format!("{} cannot be written", there.display()),
            "name another folder with --cache-dir, or `cache-dir` in config.toml",
        );
    }
    match nix::sys::statvfs::statvfs(there) {
        Ok(disk) => {
            #[allow(clippy::useless_conversion)] // Not so on 32 bits.
            let free = u64::from(disk.blocks_available()) * u64::from(disk.fragment_size());
            let found = format!("{}, {} free on its disk", cache.display(), size(free));
            if free < ROOM {
                return Finding::note(
                    "cache",
                    found,
                    "make room, or name another folder with --cache-dir",
                );
            }
            Finding::ok("cache", found)
        }
        Err(error) => Finding::bad(
            "cache",
            format!("{}: {error}", there.display()),
            "name another folder with --cache-dir",
        ),
    }
}

fn mounts() -> Vec<Finding> {
    let all = mountinfo::mounts().unwrap_or_default();
    let places: Vec<PathBuf> = all.into_iter().map(|mount| mount.mountpoint).collect();
    if places.is_empty() {
        return vec![Finding::ok("mounts", "none")];
    }
    let look = |place: PathBuf| {
        let shown = place.display();
        if is_dead(&place) {
            let remedy = format!("icosfs unmount {shown}");
            Finding::bad(
                "mount",
                format!("{shown} is dead: its process has ended"),
                remedy,
            )
        } else {
            Finding::ok(
                "mount",
                format!("{shown}; `icosfs status {shown}` says more"),
            )
        }
    };
    places.into_iter().map(look).collect()
}

async fn portal(http: &Http, services: &Services) -> anyhow::Result<Vec<Finding>> {
    let look = |service| async move { (service, look_at(http, services, service).await) };
    let (auth, meta, data) = tokio::join!(
        look(Service::Auth),
        look(Service::Meta),
        look(Service::Data)
    );
    let mut findings = Vec::new();
    let mut now = None;
    for (_, (finding, said)) in [auth, meta, data] {
        findings.push(finding);
        now = now.or(said);
    }
    findings.push(match now.map(|now| Timestamp::now().duration_since(now)) {
        None => Finding::note("clock", "no service said what time it is", "see above"),
        Some(off) if off.abs() > SKEW => Finding::bad(
            "clock",
            format!(
                "{:.0} s off the portal's: logins expire by it",
                off.as_secs_f64()
            ),
            "timedatectl set-ntp true",
        ),
        Some(_) => Finding::ok("clock", "agrees with the portal's"),
    });
    Ok(findings)
}

/// One service: its name, its address, and its answer with the time it says.
async fn look_at(
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
    let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(address)).await;
    match looked_up {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            let found = format!("the name {host} is not found: {error}");
            let remedy = format!("check the network and /etc/resolv.conf; `getent hosts {host}`");
            return (Finding::bad(&what, found, remedy), None);
        }
        Err(_late) => {
            let found = format!("no answer to the name {host}");
            return (Finding::bad(&what, found, "check /etc/resolv.conf"), None);
        }
    }
    match http.probe(services, service, PATIENCE).await {
        Ok(probe) => {
            let found = format!("{url} answers in {} ms", probe.took.as_millis());
            (Finding::ok(&what, found), probe.date)
        }
        Err(error) => {
            let text = error.to_string();
            let remedy = if text.to_lowercase().contains("certificate") {
                "apt-get install ca-certificates; behind a TLS proxy, add its certificate there"
                    .to_owned()
            } else {
                format!("curl -v {url} shows more; is a proxy or firewall in the way?")
            };
            (Finding::bad(&what, text, remedy), None)
        }
    }
}

async fn account(
    http: Http,
    services: Services,
    login: CredentialArgs,
) -> anyhow::Result<Vec<Finding>> {
    const ANONYMOUS: &str = "none: metadata and free objects only";
    let auth = match login.provider(&http, &services) {
        Ok(Some(auth)) => auth,
        Ok(None) => return Ok(vec![Finding::note("login", ANONYMOUS, "icosfs login")]),
        Err(error) => {
            let found = format!("{error:#}");
            return Ok(vec![Finding::bad("login", found, "icosfs login")]);
        }
    };
    let account = Account::new(http, services, auth);
    if account.login_state().await.is_none() {
        return Ok(vec![Finding::note("login", ANONYMOUS, "icosfs login")]);
    }
    // Proves the login, which may take one.
    let checked = tokio::time::timeout(PATIENCE, account.check_licence()).await;
    let who = account.status().await.map(|status| status.to_string());
    let who = who.unwrap_or_default();
    Ok(match checked {
        Err(_late) => vec![Finding::bad("login", "no answer", "try again later")],
        Ok(Err(error)) => vec![Finding::bad("login", error.to_string(), "icosfs login")],
        Ok(Ok(licence)) => vec![
            Finding::ok("login", who),
            match licence {
                LicenceStatus::Accepted => Finding::ok("licence", "accepted"),
                LicenceStatus::NotAccepted => Finding::bad(
                    "licence",
                    "not accepted: data cannot be read",
                    format!("accept it in your profile at {}", account.page()),
                ),
            },
        ],
    })
}
