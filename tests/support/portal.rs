//! The demo portal, and what it would tell anyone else who asks.

use icosfs::demo::{DemoOptions, DemoPortal, Repository};
use std::process::Command;

/// The built-in repository on free ports.
pub(crate) fn portal() -> DemoPortal {
    DemoPortal::start(Repository::builtin(1), DemoOptions::default()).expect("the demo starts")
}

/// The options that point a command at `portal`.
pub(crate) fn services_of(portal: &DemoPortal) -> Vec<String> {
    vec![
        format!("--auth-url={}", portal.auth_url()),
        format!("--meta-url={}", portal.meta_url()),
        format!("--data-url={}", portal.data_url()),
    ]
}

/// What `curl` gets from the data service, with the user's cookie.
pub(crate) fn get(portal: &DemoPortal, path: &str) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--cookie", &portal.token()])
        .arg(format!("{}{path}", portal.data_url()))
        .output()
        .expect("curl is installed (scripts/setup)");
    assert!(output.status.success(), "curl {path}: {}", output.status);
    output.stdout
}
