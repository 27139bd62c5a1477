//! Creates clients from a login in one step, in the same four ways as the Python
//! library.
//!
//! ```
//! use std::sync::Arc;
//!
//! use icos_portal::auth::{Credentials, CredentialsFile, TokenAuth, TokenFile};
//! use icos_portal::{Bootstrap, Envri, ObjectId, Service, Services};
//!
//! # use icos_demo::{DemoOptions, DemoPortal, DemoRepository};
//! # let portal = DemoPortal::start(DemoRepository::builtin(1), DemoOptions::default())?;
//! # let services = Services::of(Envri::Icos)
//! #     .with(Service::Auth, &portal.auth_url())?
//! #     .with(Service::Meta, &portal.meta_url())?
//! #     .with(Service::Data, &portal.data_url())?;
//! # let original = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip";
//! # let id = portal.repository().find(original).ok_or("no such object")?;
//! # let (user, password, token) = (portal.user(), portal.password(), portal.token());
//! # let folder = tempfile::tempdir()?;
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // For the public services: `Bootstrap::new(Envri::Icos)`.
//! let bootstrap = Bootstrap::with_services(services.clone())?;
//!
//! // With a user name and a password.
//! let clients = bootstrap.from_credentials(user.clone(), password.clone().into());
//! assert_eq!(clients.auth.token().await?.login_method(), "Password");
//!
//! // With the credentials file of the Python library, or one of the same form.
//! # let path = folder.path().join("cpauthToken_auth_conf.json");
//! let file = CredentialsFile::at(path.clone(), Envri::Icos);
//! file.save(&Credentials::new(user.clone(), password.into())).await?;
//! let clients = bootstrap.from_password_file(Some(path))?;
//! assert_eq!(clients.auth.token().await?.user(), user);
//!
//! // With a token from the page My Account.
//! let clients = bootstrap.from_cookie_token(&token)?;
//! let original = clients.data.original(id, 0, None).await?;
//! assert_eq!(ObjectId::of_content(&original.bytes(1 << 30).await?), id);
//!
//! // With any provider of tokens, e.g. a file that another program renews.
//! # let path = folder.path().join("token");
//! # std::fs::write(&path, token)?;
//! let auth = TokenAuth::from_file(TokenFile::at(path, Envri::Icos), &services);
//! let clients = bootstrap.from_auth_provider(Arc::new(auth));
//! assert_eq!(clients.auth.token().await?.user(), user);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use super::auth::{
    AuthError, Credentials, CredentialsFile, PasswordAuth, Token, TokenAuth, TokenProvider,
};
use super::http::{Http, Timeouts};
use super::{DataClient, Envri, MetadataClient, PortalError, Service, Services};

/// Creates clients of one repository, like `icoscp_core.bootstrap.Bootstrap`.
///
/// Sends no requests: the first request of a client that needs a token obtains
/// it. The clients need a tokio runtime.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    http: Http,
    services: Services,
}

/// A login and the clients that use it.
#[derive(Clone, Debug)]
pub struct PortalClients {
    /// The provider of tokens.
    pub auth: Arc<dyn TokenProvider>,
    /// The client of the metadata service. It uses no login.
    pub meta: MetadataClient,
    /// The client of the data service.
    pub data: DataClient,
}

impl Bootstrap {
    /// Creates a bootstrap for the public services of `envri`.
    ///
    /// # Errors
    ///
    /// [`PortalError::Unreachable`] if TLS cannot be set up, e.g. because there
    /// are no root certificates.
    pub fn new(envri: Envri) -> Result<Self, PortalError> {
        Self::with_services(Services::of(envri))
    }

    /// Creates a bootstrap for other services.
    ///
    /// # Errors
    ///
    /// As [`Bootstrap::new`].
    pub fn with_services(services: Services) -> Result<Self, PortalError> {
        let http = Http::new(Timeouts::default()).map_err(|error| PortalError::Unreachable {
            service: Service::Data,
            reason: error.to_string(),
        })?;
        Ok(Self { http, services })
    }

    /// Logs in with the user name and password in `file`, or in the standard
    /// file of the Python library if `file` is `None`. Stores new tokens in
    /// that file, so that processes share them.
    ///
    /// # Errors
    ///
    /// [`FileError::Missing`](super::auth::FileError::Missing) if the file does not
    /// exist; [`FileError::Damaged`](super::auth::FileError::Damaged) if it does not have the form of the Python
    /// library; [`AuthError::NotLoggedIn`] if there is no home folder to find
    /// the standard file in.
    pub fn from_password_file(&self, file: Option<PathBuf>) -> Result<PortalClients, AuthError> {
        let envri = self.services.envri();
        let file = match file {
            Some(path) => CredentialsFile::at(path, envri),
            None => CredentialsFile::standard(envri).ok_or(AuthError::NotLoggedIn)?,
        };
        file.load()?.ok_or_else(|| file.missing())?;
        let (http, services) = (self.http.clone(), self.services.clone());
        let auth = PasswordAuth::from_file(http, services, file);
        Ok(self.from_auth_provider(Arc::new(auth)))
    }

    /// Uses `token`, a copy of the one on the portal's My Account page, until
    /// it expires.
    ///
    /// # Errors
    ///
    /// [`AuthError::BadToken`] if it is not a token of this repository.
    pub fn from_cookie_token(&self, token: &str) -> Result<PortalClients, AuthError> {
        let token = Token::parse(self.services.envri(), token)?;
        let auth = TokenAuth::new(token, "the program".to_owned(), &self.services);
        Ok(self.from_auth_provider(Arc::new(auth)))
    }

    /// Logs in as `user` when a client needs a token.
    #[must_use]
    pub fn from_credentials(&self, user: String, password: SecretString) -> PortalClients {
        self.from_auth_provider(Arc::new(PasswordAuth::new(
            self.http.clone(),
            self.services.clone(),
            Credentials::new(user, password),
            "the program".to_owned(),
        )))
    }

    /// Uses another provider of tokens.
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
