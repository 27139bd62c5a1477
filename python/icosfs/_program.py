"""Finds and runs the program ``icosfs``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence

#: Names another program than the one that was installed with this package.
PROGRAM_VARIABLE = "ICOSFS_PROGRAM"


class IcosfsError(OSError):
    """The program could not be found, or reported a failure."""


def program() -> str:
    """Returns the path of the program ``icosfs``.

    It is the one that ``ICOSFS_PROGRAM`` names, else the one that was installed with
    this package, else the first in ``PATH``.

    Raises:
        IcosfsError: there is none.
    """
    named = os.environ.get(PROGRAM_VARIABLE)
    if named:
        return named
    for folder in _script_folders():
        path = os.path.join(folder, "icosfs")
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    found = shutil.which("icosfs")
    if found is None:
        raise IcosfsError(
            "the program icosfs is not installed with this package, and not in PATH; "
            f"reinstall the package, or name the program in {PROGRAM_VARIABLE}"
        )
    return found


def _script_folders() -> list[str]:
    """Where installers put scripts: of this environment, of the user, of ``--target``."""
    package = os.path.dirname(os.path.abspath(__file__))
    folders = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", scheme=_user_scheme()),
        os.path.join(os.path.dirname(package), "bin"),
    ]
    return [folder for folder in folders if folder]


def _user_scheme() -> str:
    return sysconfig.get_preferred_scheme("user")


def run(
    arguments: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """Runs the program and returns its standard output.

    Raises:
        IcosfsError: it failed, with its own message, or did not end within ``timeout``
            seconds.
    """
    command = [program(), *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise IcosfsError(
            f"`icosfs {arguments[0]}` did not end within {timeout} s"
        ) from expired
    except OSError as error:
        raise IcosfsError(f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        reason = reason_in(done.stderr)
        raise IcosfsError(reason or f"`icosfs {arguments[0]}` failed: {done.returncode}")
    if done.stderr:
        sys.stderr.write(done.stderr)
    return done.stdout


def reason_in(messages: str) -> str:
    """Return the error in the messages of the program, without warnings before it."""
    lines = messages.strip().splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("icosfs: ")]
    return "\n".join(lines[starts[0] if starts else 0 :]).removeprefix("icosfs: ")
