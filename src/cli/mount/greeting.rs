//! What a new user sees once the mount is ready: what was mounted where, as which user, and
//! what to try next. Only on a terminal.

use std::path::Path;

use crate::cli::output::{self, OutputError, print_text};
use crate::cli::status::{mounted, read_status};
use crate::cli::terminal::{escape_control, wrapped};
use crate::daemon::report::DaemonStatus;

/// Prints the text, unless standard output is no terminal or the mount does not respond.
pub(super) fn print(mountpoint: &Path) -> Result<(), OutputError> {
    if !output::is_terminal() {
        return Ok(());
    }
    match mounted(mountpoint).and_then(|mount| read_status(&mount)) {
        Ok(status) => {
            let text = text(&status, mountpoint);
            // Commands begin with two blanks.
            let text = wrapped(&escape_control(&text), output::width_of_text(), 2);
            print_text!("{text}")
        }
        Err(_) => Ok(()),
    }
}

fn text(status: &DaemonStatus, mountpoint: &Path) -> String {
    let info = &status.info;
    let folder = mountpoint.display();
    let host = info.services.data.trim_end_matches('/');
    let host = host.split_once("://").map_or(host, |(_, host)| host);
    let portal = if info.login_from.is_demo() {
        "the demo portal".to_owned()
    } else {
        format!("{} ({host})", info.portal)
    };
    let login = match &status.login {
        Some(login) => match &login.user {
            Some(user) => format!("as {user}"),
            None => format!("with the login of {}", login.source),
        },
        None => "without a login: metadata and free objects only (`icosfs login`)".to_owned(),
    };
    format!(
        "mounted {portal} at {folder}, {login}\n\n  \
         ls {folder}/stations              data by station and data type\n  \
         icosfs find --paths {folder} ...  search it\n  \
         icosfs status {folder}            activity and failures\n  \
         icosfs unmount {folder}\n"
    )
}
