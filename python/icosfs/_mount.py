"""``icosfs.mount()``: a mount for the time of a ``with`` block."""

from __future__ import annotations

import contextlib
import os
import tempfile
from types import TracebackType

from ._program import IcosfsError, run


class Mount(os.PathLike[str]):
    """A mounted repository: a path, and a context manager that unmounts it.

    ``mount / "objects"`` joins paths, and ``open(mount / "README.md")`` works.
    """

    def __init__(self, path: str, temporary: bool) -> None:
        self.path = path
        self._temporary = temporary
        self._owner: int | None = os.getpid()

    def __fspath__(self) -> str:
        return self.path

    def __truediv__(self, name: str | os.PathLike[str]) -> str:
        return os.path.join(self.path, os.fspath(name))

    def __repr__(self) -> str:
        return f"<icosfs mount at {self.path}>"

    def __enter__(self) -> Mount:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unmount()

    def unmount(self) -> None:
        """Unmounts it. Files that are open can be read to their ends.

        Has no effect if it is unmounted, or in a forked child: the mount belongs to
        the process that made it.
        """
        if self._owner != os.getpid():
            return
        self._owner = None
        run(["unmount", "--lazy", self.path], timeout=60)
        if self._temporary:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)


def mount(
    path: str | os.PathLike[str] | None = None,
    *,
    portal: str | None = None,
    demo: bool = False,
    options: dict[str, str | bool | int] | None = None,
) -> Mount:
    """Mounts the repository, and returns once it can be read.

    The mount is unmounted at the end of a ``with`` block, or by ``Mount.unmount``:

        with icosfs.mount() as icos:
            table = pandas.read_csv(icos / "objects/UNhY4JhezH9gQYqvDMWrWH9C.csv")

    Args:
        path: an empty folder; by default a new temporary one.
        portal: ``"icos"``, ``"sites"`` or ``"cities"``.
        demo: mounts a demo portal, which needs neither login nor network.
        options: further options of ``icosfs mount`` by their long names, such as
            ``{"cache-size": "20G", "include-deprecated": True}``.

    Raises:
        IcosfsError: with the reason, such as that this machine has no FUSE. There,
            `icos://` works without a mount.
    """
    arguments = ["mount"]
    if portal is not None:
        arguments.append(f"--portal={portal}")
    if demo:
        arguments.append("--demo")
    for name, value in (options or {}).items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif value is not False:
            arguments.append(f"{flag}={value}")
    temporary = path is None
    folder = tempfile.mkdtemp(prefix="icosfs-") if path is None else os.fspath(path)
    try:
        run([*arguments, "--", folder])
    except IcosfsError:
        if temporary:
            os.rmdir(folder)
        raise
    return Mount(os.path.abspath(folder), temporary)
