//! The folder of the portal's own files, where a machine has them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::mount::{OpenFolderError, open_folder_outside_mounts};
use icos_portal::Envri;

/// Opens the folder that `--data-path` names, or else the variable that the
/// Python library knows as well. None if there is none, or if it lies in a
/// mount of icosfs, such as the one that is to be at `planned`.
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
        // A variable is set once for many programs.
        Err(error) if source == variable => {
            eprintln!("icosfs: {source} is left out: {error}");
            Ok(None)
        }
        Err(error) => Err(error).context("bad --data-path"),
    }
}
