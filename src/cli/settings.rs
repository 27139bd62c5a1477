//! Options of all commands: the portal, the cache folder, timeouts and logging.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use directories::ProjectDirs;
use futures_util::FutureExt as _;
use nix::unistd::geteuid;
use tokio::runtime::Runtime;

use super::credentials::CredentialArgs;
use super::log::LogArgs;
use super::mount_context::PortalChoice;
use crate::daemon::report::{MountLogin, ServiceUrls};
use icos_portal::auth::TokenProvider;
use icos_portal::http::{Certificate, Http, Timeouts};
use icos_portal::{Account, DataClient, Envri, MetadataClient, Service, Services, UsageReporter};

/// Maximum length of the file of `--ca-bundle`, in bytes.
const MAX_AUTHORITIES: u64 = 16 << 20;

/// Options of all commands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Portal and cache")]
pub(super) struct GlobalArgs {
    /// icos, sites, cities, demo, or the folder of a mount
    ///
    /// The repository; `demo` is that of a running `icosfs mount --demo`.
    #[arg(long, global = true, default_value = "icos", env = "ICOSFS_PORTAL")]
    portal: PortalChoice,
    /// The login of the mount whose settings these are.
    #[arg(skip)]
    mount_login: MountLogin,
    /// Override the URL of the authentication service
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ICOSFS_AUTH_URL",
        hide_short_help = true
    )]
    auth_url: Option<String>,
    /// Override the URL of the metadata service
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ICOSFS_META_URL",
        hide_short_help = true
    )]
    meta_url: Option<String>,
    /// Override the URL of the data service
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "ICOSFS_DATA_URL",
        hide_short_help = true
    )]
    data_url: Option<String>,
    /// The cache folder
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ICOSFS_CACHE_DIR",
        hide_short_help = true
    )]
    cache_dir: Option<PathBuf>,
    /// Seconds without a response from the portal until a read fails, including
    /// retries
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60,
          value_parser = seconds, env = "ICOSFS_TIMEOUT",
          hide_short_help = true)]
    timeout: u64,
    /// Certificates (PEM) of additional trusted authorities, for networks that
    /// intercept HTTPS
    #[arg(long, global = true, value_name = "FILE", env = "ICOSFS_CA_BUNDLE")]
    ca_bundle: Option<PathBuf>,
    /// A mail address or URL for the portal's operators, sent with every request
    #[arg(
        long,
        global = true,
        value_name = "TEXT",
        value_parser = contact,
        env = "ICOSFS_CONTACT",
        hide_short_help = true
    )]
    contact: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

impl GlobalArgs {
    /// Starts logging; `serves` is true for a command that serves a mount.
    pub(super) fn start_log(&self, serves: bool) -> anyhow::Result<()> {
        self.log.start(serves)
    }

    /// Creates the HTTP client, a pool of connections.
    pub(super) fn http(&self) -> anyhow::Result<Http> {
        let patience = Timeouts::of(Duration::from_secs(self.timeout));
        let contact = self.contact.as_deref();
        Http::with_options(patience, self.authorities()?, contact).context("cannot set up HTTPS")
    }

    /// Reads the certificates of `--ca-bundle`.
    fn authorities(&self) -> anyhow::Result<Vec<Certificate>> {
        let Some(path) = &self.ca_bundle else {
            return Ok(Vec::new());
        };
        let pem = icos_files::read_file(path, MAX_AUTHORITIES)
            .with_context(|| format!("cannot read the certificates in {}", path.display()))?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => bail!(
                "expected certificates in PEM form (-----BEGIN CERTIFICATE-----) in {}",
                path.display()
            ),
        }
    }

    /// Returns these settings with those of the mount that `--portal` refers to.
    pub(super) fn resolved(self) -> anyhow::Result<Self> {
        match self.portal.mount(self.cache_dir().ok().as_deref())? {
            Some(mount) => mount.apply(&self),
            None => Ok(self),
        }
    }

    /// The value of `--portal`.
    pub(super) fn portal_name(&self) -> String {
        self.portal.to_string()
    }

    /// Whether the portal is the demo.
    pub(super) fn is_demo(&self) -> bool {
        self.portal == PortalChoice::Demo
    }

    /// Returns these settings for the portal and the login of a mount.
    pub(super) fn at(&self, portal: Envri, services: &ServiceUrls, login: MountLogin) -> Self {
        Self {
            portal: PortalChoice::Repository(portal),
            auth_url: Some(services.auth.clone()),
            meta_url: Some(services.meta.clone()),
            data_url: Some(services.data.clone()),
            mount_login: login,
            ..self.clone()
        }
    }

    /// Returns these settings with another cache folder.
    pub(super) fn with_cache_dir(self, folder: &Path) -> Self {
        Self {
            cache_dir: Some(folder.to_owned()),
            ..self
        }
    }

    /// Returns these settings for `repository`: its public services, unless it is the one
    /// that the options select.
    pub(super) fn for_repository(&self, repository: Envri) -> Self {
        if self.portal == PortalChoice::Repository(repository) {
            return self.clone();
        }
        Self {
            portal: PortalChoice::Repository(repository),
            auth_url: None,
            meta_url: None,
            data_url: None,
            mount_login: MountLogin::default(),
            ..self.clone()
        }
    }

    /// Returns the portal's services, with the URLs that the options override.
    pub(super) fn services(&self) -> anyhow::Result<Services> {
        let PortalChoice::Repository(repository) = self.portal else {
            bail!(
                "this command works with icos, sites or cities only, found --portal {}",
                self.portal
            );
        };
        let mut services = Services::of(repository);
        for (service, url) in [
            (Service::Auth, &self.auth_url),
            (Service::Meta, &self.meta_url),
            (Service::Data, &self.data_url),
        ] {
            if let Some(url) = url {
                services = services
                    .with(service, url)
                    .with_context(|| format!("invalid URL of the {service} service"))?;
            }
        }
        Ok(services)
    }

    /// Creates the clients of the portal, with the login that the options select; without
    /// one if there are no such options.
    pub(super) fn clients(&self, login: Option<CredentialArgs>) -> anyhow::Result<Clients> {
        let (http, services) = (self.http()?, self.services()?);
        let Some(login) = login else {
            return Ok(Clients::new(http, services, None));
        };
        let login_from = login.for_other_commands()?;
        let auth = self.login(login, &http, &services)?;
        Ok(Clients {
            login_from,
            ..Clients::new(http, services, auth)
        })
    }

    /// Returns the login that `login` selects, or that of the mount whose settings these
    /// are.
    pub(super) fn login(
        &self,
        login: CredentialArgs,
        http: &Http,
        services: &Services,
    ) -> anyhow::Result<Option<Arc<dyn TokenProvider>>> {
        #[cfg(feature = "demo")]
        if self.mount_login.is_demo() {
            // Never the user's own: the demo is another portal.
            return Ok(Some(super::demo::login(http, services)));
        }
        let login = login.or_of_mount(&self.mount_login);
        login.provider(http, services)
    }

    /// Returns the cache folder of all repositories.
    pub(super) fn cache_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.cache_dir {
            return std::path::absolute(dir)
                .with_context(|| format!("invalid cache folder {}", dir.display()));
        }
        let dirs = ProjectDirs::from("", "", "icosfs")
            .context("no home folder for the cache; choose a folder with --cache-dir")?;
        let dir = dirs.cache_dir().to_owned();
        expect_own_home(&dir)?;
        Ok(dir)
    }
}

/// Fails if root runs with the home folder of another user, as `sudo` may set it.
/// Root would create files there that the user can neither use nor remove.
fn expect_own_home(dir: &Path) -> anyhow::Result<()> {
    let existing = dir.ancestors().find_map(|dir| fs::metadata(dir).ok());
    let owner = existing.map_or(0, |found| found.uid());
    if geteuid().is_root() && owner != 0 {
        bail!(
            "running as root with the home folder of user {owner}; \
             run it as that user, without sudo, or choose a folder with --cache-dir"
        );
    }
    Ok(())
}

/// The clients of a portal, with a login if the user has one.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) services: Services,
    pub(super) account: Option<Account>,
    pub(super) meta: MetadataClient,
    pub(super) data: DataClient,
    pub(super) usage: UsageReporter,
    pub(super) http: Http,
    /// Where other commands find this login.
    pub(super) login_from: MountLogin,
}

impl Clients {
    pub(super) fn new(
        http: Http,
        services: Services,
        auth: Option<Arc<dyn TokenProvider>>,
    ) -> Self {
        let account = auth
            .clone()
            .map(|auth| Account::new(http.clone(), services.clone(), auth));
        Self {
            account,
            meta: MetadataClient::new(http.clone(), services.clone()),
            data: DataClient::new(http.clone(), services.clone(), auth.clone()),
            usage: UsageReporter::new(http.clone(), services.clone(), auth),
            http,
            services,
            login_from: MountLogin::default(),
        }
    }

    /// Returns the cache folder of this repository, below that of all repositories.
    pub(super) fn cache_in(&self, folder: &Path) -> PathBuf {
        folder.join(self.services.cache_name())
    }
}

/// Runs `work` for all services at once.
pub(super) async fn for_each_service<T>(work: impl AsyncFn(Service) -> T) -> [T; 3] {
    let (auth, meta, data) = (Service::Auth, Service::Meta, Service::Data);
    tokio::join!(work(auth), work(meta), work(data)).into()
}

/// How long a thread for blocking work waits for more of it: longer than any command.
const KEEP_ALIVE: Duration = Duration::from_hours(365 * 24);

/// Starts a runtime with a worker thread per core.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    expect_threads()?;
    Runtime::new().context("cannot start threads")
}

/// Fails if as many threads as a runtime needs cannot be started: tokio would panic.
pub(super) fn expect_threads() -> anyhow::Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // One more, for blocking work.
    start_and_end_threads(workers + 1)
}

/// Fails if `count` threads cannot be started.
fn start_and_end_threads(count: usize) -> anyhow::Result<()> {
    try_threads(count)
        .context("cannot start threads; see `ulimit -u` and the limits of the container")
}

fn try_threads(count: usize) -> std::io::Result<()> {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(std::sync::Mutex::new(ended));
    let started: Result<Vec<_>, _> = (0..count)
        .map(|_| {
            let ended = Arc::clone(&ended);
            let wait = move || drop(ended.lock().map(|ended| ended.recv()));
            std::thread::Builder::new().spawn(wait)
        })
        .collect();
    // Ends those that were started.
    drop(end);
    for thread in started? {
        let _ = thread.join();
    }
    Ok(())
}

/// Runs `work` to its end on a new single-threaded runtime.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    start_and_end_threads(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEEP_ALIVE)
        .build()
        .context("cannot start threads")?;
    // With one thread for blocking work, tokio queues more of it if no further thread can
    // be started. Without any, it panics.
    runtime.spawn_blocking(|| ());
    // Boxed, so that the runtime's code is compiled for each type of result only.
    runtime.block_on(work.boxed_local())
}

/// Parses a size of at least 1 MiB.
pub(super) fn size(text: &str) -> Result<u64, String> {
    bytes(text).and_then(|bytes| {
        (bytes >= 1 << 20)
            .then_some(bytes)
            .ok_or_else(|| "expected a size of at least 1M, such as 500M or 20G".to_owned())
    })
}

/// Parses a time of at least one second.
fn seconds(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1 second".to_owned()),
        Ok(seconds) => Ok(seconds),
        Err(_) => Err("expected a whole number of seconds".to_owned()),
    }
}

/// Parses a contact, which becomes a comment in a header.
fn contact(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"()\\".contains(&byte) || byte == b' ';
    let valid = !text.trim().is_empty() && text.len() <= 100 && text.bytes().all(is_plain);
    (valid.then(|| text.trim().to_owned())).ok_or_else(|| {
        "expected a mail address or a URL of up to 100 ASCII characters, without parentheses"
            .to_owned()
    })
}

/// Parses a number of bytes: digits with an optional unit K, M, G or T, powers of
/// 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start().to_ascii_uppercase();
    let unit = unit.trim_end_matches("IB").trim_end_matches('B');
    let power = ["", "K", "M", "G", "T"]
        .iter()
        .position(|&known| known == unit);
    (digits.parse().ok().zip(power))
        .and_then(|(number, power): (u64, _)| number.checked_mul(1 << (10 * power)))
        .ok_or_else(|| "expected a size such as 500M or 20G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_is_one_line_of_plain_text() {
        assert_eq!(contact(" it@example.org "), Ok("it@example.org".to_owned()));
        for bad in ["", " ", "a\nb: c", "a)b", "\u{e5}@b.se", &*"x".repeat(101)] {
            assert!(contact(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn size_is_parsed_with_its_unit() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("20G", 20 << 30),
            ("500 MiB", 500 << 20),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(bytes("5K"), Ok(5 << 10));
        for bad in ["", "G", "-1G", "1X", "1.5G", "5K", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
