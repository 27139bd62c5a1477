"""``icos://``: the repository as a filesystem of fsspec.

Paths are those of a mount: ``icos://objects/<id>.csv``,
``icos://stations/HTM/atcCo2L2DataObject/*.parquet``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from fsspec.asyn import AbstractAsyncStreamedFile, AsyncFileSystem, get_loop
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import tokenize

from ._server import FILE, PIECE, ReplyError, Server, Settings, server_for

P = ParamSpec("P")
T = TypeVar("T")

#: The number of bytes that a file reads ahead. A request costs little: the server is on
#: this machine.
BLOCK_SIZE = 1 << 20


class IcosFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """The repository, read-only.

    Settings are those of the program: ``ICOSFS_*`` variables and ``config.toml``.

    Args:
        portal: ``"icos"``, ``"sites"`` or ``"cities"``.
        demo: uses a demo portal, which needs neither login nor network.
        options: further options of ``icosfs serve`` by their long names.
        exact_size: whether `info` of a table waits until its size is known, which
            downloads it. Otherwise such a size is ``None``.
    """

    protocol = "icos"
    root_marker = ""
    async_impl = True
    # Requests run in threads of their own connections: see `_server`.
    mirror_sync_methods = True
    _pid: int
    _loop: Any

    def __init__(
        self,
        portal: str | None = None,
        demo: bool = False,
        options: dict[str, str | bool | int] | None = None,
        exact_size: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.exact_size = exact_size
        self._settings = Settings(portal, demo, tuple(sorted((options or {}).items())))

    @property
    def loop(self) -> Any:
        """The loop of this process: a forked child has a new one."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        return self._loop

    @property
    def server(self) -> Server:
        """The server, which is started when it is first needed."""
        return server_for(self._settings)

    @property
    def fsid(self) -> str:
        return "icos_" + str(tokenize(self._settings))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = os.fspath(path)
        for prefix in ("icos://", "icos::"):
            text = text.removeprefix(prefix)
        return text.strip("/")

    # Each call of the server, and its errors.

    def _call(self, path: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        except ReplyError as error:
            raise error.as_os_error(path) from error

    async def _in_thread(
        self, path: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await asyncio.to_thread(lambda: self._call(path, work, *args, **kwargs))

    # Files and folders.

    def _entry(self, path: str, exact: bool) -> dict[str, Any]:
        query = {"format": "stat"}
        if exact:
            query["size"] = "exact"
        entry = self._call(path, self.server.json, path, query)
        return self._described(entry, path)

    def _described(self, entry: dict[str, Any], path: str) -> dict[str, Any]:
        """The entry of the server as fsspec describes files."""
        described: dict[str, Any] = {**entry, "name": path, "type": entry["kind"]}
        del described["kind"]
        described["size"] = entry.get("size") if entry.get("size_is_exact") else None
        if entry["kind"] == "directory":
            described["size"] = 0
        if "modified" in entry:
            described["mtime"] = datetime.fromisoformat(
                entry["modified"].replace("Z", "+00:00")
            )
        return described

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        exact = bool(kwargs.get("exact_size", self.exact_size))
        return await asyncio.to_thread(self._entry, path, exact)

    async def _ls(
        self, path: str, detail: bool = True, **kwargs: Any
    ) -> list[dict[str, Any]] | list[str]:
        path = self._strip_protocol(path)
        entry = await asyncio.to_thread(self._entry, path, False)
        if entry["type"] == "file":
            return [entry] if detail else [path]
        query = {"format": "json"}
        listing = await self._in_thread(path, self.server.json, path, query)
        prefix = f"{path}/" if path else ""
        entries = [
            self._described(entry, prefix + entry["name"]) for entry in listing["entries"]
        ]
        return entries if detail else [entry["name"] for entry in entries]

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        try:
            await self._info(path, exact_size=False)
        except FileNotFoundError:
            return False
        return True

    async def _isfile(self, path: str) -> bool:
        try:
            return bool((await self._info(path, exact_size=False))["type"] == "file")
        except FileNotFoundError:
            return False

    async def _isdir(self, path: str) -> bool:
        try:
            return bool((await self._info(path, exact_size=False))["type"] == "directory")
        except FileNotFoundError:
            return False

    def created(self, path: str) -> datetime:
        """When the object was submitted."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """When the object was submitted: objects never change."""
        entry = self._entry(self._strip_protocol(path), exact=False)
        if "mtime" not in entry:
            raise NotImplementedError(f"{path} has no time of its own")
        modified = entry["mtime"]
        assert isinstance(modified, datetime)
        return modified

    def ukey(self, path: str) -> str:
        """A key for caches: objects never change, so that id and form identify bytes."""
        path = self._strip_protocol(path)
        entry = self._entry(path, exact=False)
        return str(tokenize(path, entry.get("id"), entry.get("mtime")))

    # Bytes.

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        path = self._strip_protocol(path)
        return await asyncio.to_thread(self._read, path, start, end)

    def _read(self, path: str, start: int | None, end: int | None) -> bytes:
        """Bytes of a file; negative positions count from its end."""
        if start is not None and start < 0 and end is None:
            return self._call(path, self.server.suffix, path, -start)
        if (start is not None and start < 0) or (end is not None and end < 0):
            size = self._entry(path, exact=True)["size"]
            start = max(0, start + size) if start is not None and start < 0 else start
            end = max(0, end + size) if end is not None and end < 0 else end
        return self._call(path, self.server.read, path, start, end)

    async def _get_file(
        self,
        rpath: str,
        lpath: str | os.PathLike[str],
        callback: Callback = DEFAULT_CALLBACK,
        **kwargs: Any,
    ) -> None:
        path = self._strip_protocol(rpath)
        if await self._isdir(path):
            os.makedirs(lpath, exist_ok=True)
            return
        await asyncio.to_thread(self._download, path, lpath, callback)

    def _download(
        self, path: str, target: str | os.PathLike[str], callback: Callback
    ) -> None:
        """Copies a file; one that fails leaves no part of it behind."""
        local = os.fspath(target)
        os.makedirs(os.path.dirname(local) or ".", exist_ok=True)
        # A new file, whose name no other thread or user can foresee.
        partial = f"{local}.{secrets.token_hex(8)}.part"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with open(descriptor, "wb") as out:
                self._call(path, self._copy, path, out, callback)
            os.replace(partial, local)
        except BaseException:
            if os.path.exists(partial):
                os.remove(partial)
            raise

    def _copy(self, path: str, out: Any, callback: Callback) -> None:
        with self.server.request(path, FILE) as response:
            length = response.getheader("Content-Length")
            expected = None if length is None else int(length)
            callback.set_size(expected)
            copied = 0
            while piece := response.read(PIECE):
                out.write(piece)
                copied += len(piece)
                callback.relative_update(len(piece))
        # http.client takes a reply that ends early for complete.
        if expected is not None and copied != expected:
            message = f"the server sent {copied} of {expected} bytes; read the file again"
            raise OSError(errno.EIO, message, path)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> IcosFile:
        path = self._strip_protocol(path)
        _require_reading(mode, path)
        # A pickled file has its size.
        size: int | None = kwargs.pop("size", None)
        if size is None:
            entry = self._entry(path, exact=True)
            if entry["type"] == "directory":
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            size = entry["size"] or 0
        return IcosFile(
            self,
            path,
            mode,
            block_size if isinstance(block_size, int) else BLOCK_SIZE,
            cache_options=cache_options,
            size=size,
            **kwargs,
        )

    async def open_async(
        self, path: str, mode: str = "rb", **kwargs: Any
    ) -> IcosStreamedFile:
        path = self._strip_protocol(path)
        _require_reading(mode, path)
        entry = await self._info(path, exact_size=True)
        if entry["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return IcosStreamedFile(self, path, mode, size=entry["size"] or 0, **kwargs)

    # What would change something.

    async def _read_only(self, *args: Any, **kwargs: Any) -> Any:
        raise _read_only_error(str(args[0]) if args else "")

    _rm_file = _rm = _cp_file = _pipe_file = _put_file = _mkdir = _makedirs = _read_only
    _rmdir = _read_only

    def touch(self, path: str, *args: Any, **kwargs: Any) -> None:
        raise _read_only_error(path)

    def rmdir(self, path: str) -> None:
        raise _read_only_error(path)

    def mv(self, path1: str, path2: str, *args: Any, **kwargs: Any) -> None:
        raise _read_only_error(path1)


def _require_reading(mode: str, path: str) -> None:
    if mode not in ("rb", "r"):
        raise _read_only_error(path)


def _read_only_error(path: str) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), path)


class IcosFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file: one version of it, such as of metadata that change. A copy in
    another process opens the file again."""

    fs: IcosFileSystem
    #: Identifies the version, from the first read on.
    _tag: str | None = None

    def _fetch_range(self, start: int, end: int) -> bytes:
        read = self.fs.server.read_version
        body, tag = self.fs._call(self.path, read, self.path, start, end, self._tag)
        self._tag = self._tag or tag
        wanted = min(end, self.size) - start
        if len(body) < wanted:
            reason = f"expected {wanted} bytes at {start}, received {len(body)}"
            raise OSError(errno.EIO, reason, self.path)
        return body

    def readinto(self, buffer: Any) -> int:
        out = memoryview(buffer).cast("B")
        data = self.read(out.nbytes)
        out[: len(data)] = data
        return len(data)


class IcosStreamedFile(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """A file that is open for asynchronous reads."""

    fs: IcosFileSystem
    _tag: str | None = None

    async def _fetch_range(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        if start >= end:
            return b""
        read = self.fs.server.read_version
        body, tag = await self.fs._in_thread(
            self.path, read, self.path, start, end, self._tag
        )
        self._tag = self._tag or tag
        return body
