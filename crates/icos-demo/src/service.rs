//! The names of the portal's services.

use serde::{Deserialize, Serialize};

/// One of the portal's three services.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DemoService {
    /// Logins and user profiles.
    Auth,
    /// Landing pages and SPARQL.
    Meta,
    /// File contents.
    Data,
}

impl DemoService {
    /// Auth, meta and data, in the order of their ports.
    pub const ALL: [DemoService; 3] = [DemoService::Auth, DemoService::Meta, DemoService::Data];

    /// The name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DemoService::Auth => "auth",
            DemoService::Meta => "meta",
            DemoService::Data => "data",
        }
    }
}
