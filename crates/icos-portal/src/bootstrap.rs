//! Creates clients from a login in one step, in the same four ways as the
//! Python library.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use super::auth::{
    AuthError, Credentials, CredentialsFile, FileError, PasswordAuth, Token, TokenAuth,
    TokenProvider,
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
    /// [`FileError::Missing`] if the file does not exist;
    /// [`FileError::Damaged`] if it does not have the form of the Python
    /// library; [`AuthError::NotLoggedIn`] if there is no home folder to find
    /// the standard file in.
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
