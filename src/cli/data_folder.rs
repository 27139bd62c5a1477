//! The folder of the portal's own data files, on machines that have one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::mount::{OpenFolderError, open_folder_outside_mounts};
use icos_portal::Envri;

/// Opens the folder given by `--data-path`, or else by the environment variable
/// that the portal's Python library also uses. Returns `None` if no folder is
/// given, or, after a warning, if the folder lies in a mount of icosfs or in
/// `planned`, where a mount is about to be made.
pub(super) fn open(
    flag: Option<PathBuf>,
    envri: Envri,
    planned: Option<&Path>,
) -> anyhow::Result<Option<OwnedFd>> {
    let variable = envri.data_path_variable();
    let (path, source) = match flag {
        Some(path) => (path, "--data-path"),
        None => match std::env::var_os(variable).filter(|path| !path.is_empty()) {
            Some(path) => (path.into(), variable),
            None => return Ok(None),
        },
    };
    match open_folder_outside_mounts(&path, planned) {
        Ok(folder) => Ok(Some(folder)),
        Err(error @ OpenFolderError::Inside { .. }) => {
            eprintln!("icosfs: {source} is left out: {error}");
            Ok(None)
        }
        // The variable is set for many programs, so it must not stop this one.
        Err(error) if source == variable => {
            eprintln!("icosfs: {source} is left out: {error}");
            Ok(None)
        }
        Err(error) => Err(error).context("bad --data-path"),
    }
}
