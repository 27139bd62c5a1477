//! From a login to clients, in one step: the Python library's four ways in.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use super::auth::{
    AuthError, Credentials, CredentialsFile, FileError, PasswordAuth, Token, TokenAuth,
    TokenProvider,
};
use super::http::{Http, Timeouts};
use super::{DataClient, Envri, MetadataClient, PortalError, Service, Services};

/// Makes clients of one repository, as `icoscp_core.bootstrap.Bootstrap` does.
///
/// Nothing here asks the portal; the first request that needs a token does.
/// PortalClients need a tokio runtime.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    http: Http,
    services: Services,
}

/// A login and the clients that use it.
#[derive(Clone, Debug)]
pub struct PortalClients {
    /// Provides tokens.
    pub auth: Arc<dyn TokenProvider>,
    /// Metadata, for which no login is needed, and none is used.
    pub meta: MetadataClient,
    /// Data.
    pub data: DataClient,
}

impl Bootstrap {
    /// A bootstrap for `envri`, where the world finds it.
    ///
    /// # Errors
    ///
    /// [`PortalError::Unreachable`] if TLS cannot be set up, e.g. for want of
    /// root certificates.
    pub fn new(envri: Envri) -> Result<Self, PortalError> {
        Self::with_services(Services::of(envri))
    }

    /// A bootstrap for a portal elsewhere.
    pub fn with_services(services: Services) -> Result<Self, PortalError> {
        let http = Http::new(Timeouts::default()).map_err(|error| PortalError::Unreachable {
            service: Service::Data,
            reason: error.to_string(),
        })?;
        Ok(Self { http, services })
    }

    /// Logs in with the user name and password in `file`, or in the file that
    /// the Python library uses if none is named; shares tokens through it.
    ///
    /// # Errors
    ///
    /// [`FileError::Missing`] if there is no such file, [`FileError::Damaged`]
    /// if it is not in the library's form.
    ///
    /// ```
    /// # use icos_demo::{DemoOptions, DemoPortal, Repository};
    /// # use icos_portal::auth::{Credentials, CredentialsFile};
    /// # use icos_portal::{Bootstrap, Envri};
    /// # let portal = DemoPortal::start(Repository::builtin(1), DemoOptions::default())?;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("cpauthToken_auth_conf.json");
    /// let file = CredentialsFile::at(path.clone(), Envri::Icos);
    /// file.save(&Credentials::new(portal.user(), portal.password().into())).await?;
    ///
    /// let clients = Bootstrap::with_services(portal.services())?.from_password_file(Some(path))?;
    /// let token = clients.auth.token().await?;
    /// assert_eq!(token.user(), portal.user());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_password_file(&self, file: Option<PathBuf>) -> Result<PortalClients, AuthError> {
        let envri = self.services.envri();
        let file = match file {
            Some(path) => CredentialsFile::at(path, envri),
            None => CredentialsFile::standard(envri).ok_or(AuthError::NotLoggedIn)?,
        };
        if file.load()?.is_none() {
            let path = file.path().to_owned();
            return Err(FileError::Missing { path }.into());
        }
        let (http, services) = (self.http.clone(), self.services.clone());
        let auth = PasswordAuth::from_file(http, services, file);
        Ok(self.from_auth_provider(Arc::new(auth)))
    }

    /// Uses `token`, from the portal's My Account page, until it expires.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`] if it is no token of this repository.
    ///
    /// ```
    /// # use icos_demo::{DemoOptions, DemoPortal, Repository};
    /// # use icos_portal::{Bootstrap, ObjectId};
    /// # let portal = DemoPortal::start(Repository::builtin(1), DemoOptions::default())?;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let clients = Bootstrap::with_services(portal.services())?.from_cookie_token(&portal.token())?;
    /// # let file = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";
    /// # let id = portal.repository().find(file).ok_or("no such object")?;
    /// let original = clients.data.original(id, 0, None).await?;
    /// let bytes = original.bytes(1 << 30).await?;
    /// assert_eq!(ObjectId::of_content(&bytes), id);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_cookie_token(&self, token: &str) -> Result<PortalClients, AuthError> {
        let token = Token::parse(self.services.envri(), token)?;
        let auth = TokenAuth::new(token, "the program's own token".to_owned(), &self.services);
        Ok(self.from_auth_provider(Arc::new(auth)))
    }

    /// Logs in as `user`, when a token is needed.
    ///
    /// ```
    /// # use icos_demo::{DemoOptions, DemoPortal, Repository};
    /// # use icos_portal::Bootstrap;
    /// # let portal = DemoPortal::start(Repository::builtin(1), DemoOptions::default())?;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let clients = Bootstrap::with_services(portal.services())?
    ///     .from_credentials(portal.user(), portal.password().into());
    /// assert_eq!(clients.auth.token().await?.login_method(), "Password");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn from_credentials(&self, user: String, password: SecretString) -> PortalClients {
        self.from_auth_provider(Arc::new(PasswordAuth::new(
            self.http.clone(),
            self.services.clone(),
            Credentials::new(user, password),
            "the program's own credentials".to_owned(),
        )))
    }

    /// Uses any other source of tokens.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use icos_demo::{DemoOptions, DemoPortal, Repository};
    /// # use icos_portal::auth::{TokenAuth, TokenFile};
    /// # use icos_portal::{Bootstrap, Envri};
    /// # let portal = DemoPortal::start(Repository::builtin(1), DemoOptions::default())?;
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("token");
    /// // A token that something else keeps fresh in a file.
    /// std::fs::write(&path, portal.token())?;
    /// let file = TokenFile::at(path, Envri::Icos);
    /// let auth = Arc::new(TokenAuth::from_file(file, &portal.services()));
    ///
    /// let clients = Bootstrap::with_services(portal.services())?.from_auth_provider(auth);
    /// assert_eq!(clients.auth.token().await?.user(), portal.user());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[allow(clippy::wrong_self_convention)] // The Python library's names.
    pub fn from_auth_provider(&self, auth: Arc<dyn TokenProvider>) -> PortalClients {
        let (http, services) = (self.http.clone(), self.services.clone());
        PortalClients {
            meta: MetadataClient::new(http.clone(), services.clone()),
            data: DataClient::new(http, services, Some(Arc::clone(&auth))),
            auth,
        }
    }
}
