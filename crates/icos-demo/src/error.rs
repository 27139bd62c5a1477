//! Errors of starting a demo portal.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a demo portal could not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A metadata file could not be read.
    #[error("cannot read metadata from {path}: {reason}")]
    Metadata {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A port could not be opened.
    #[error("cannot listen on port {port} of 127.0.0.1 for the {service} service: {source}")]
    Listen {
        /// The service's name.
        service: &'static str,
        /// The requested port; 0 for any.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
    /// The worker threads could not be started.
    #[error("cannot start the demo portal's threads: {0}")]
    Threads(io::Error),
}

impl DemoError {
    pub(crate) fn listen(service: &'static str, port: u16, source: io::Error) -> Self {
        Self::Listen {
            service,
            port,
            source,
        }
    }

    pub(crate) fn metadata(path: &Path, reason: &dyn fmt::Display) -> Self {
        Self::Metadata {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
