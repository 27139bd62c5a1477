"""Finds or starts the server, and talks to it over its socket.

One server serves all processes of a user that have the same settings: `icosfs serve
--reuse` finds or starts it. A process keeps connections open and shares them between
its threads; a forked child opens its own.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ._program import IcosfsError, run

#: How long a server without requests goes on, in seconds.
IDLE_TIMEOUT = 600
#: How long to wait for a server to start, and for a reply to go on, in seconds. The
#: server has deadlines of its own for the portal, and reports them as errors.
START_TIMEOUT = 120
REPLY_TIMEOUT = 900
#: The number of unused connections that are kept.
MAX_UNUSED = 16
#: The number of bytes that are read from a connection at once.
PIECE = 1 << 20
#: Asks for the bytes of a file, never for the listing of a folder.
FILE = {"format": "file"}


@dataclass(frozen=True)
class Settings:
    """What selects a server, beside variables and ``config.toml``."""

    portal: str | None = None
    demo: bool = False
    #: Further options of ``icosfs serve`` by their long names.
    options: tuple[tuple[str, str | bool | int], ...] = ()

    def arguments(self) -> list[str]:
        """The arguments of ``icosfs serve``."""
        arguments: list[str] = []
        if self.portal is not None:
            arguments.append(f"--portal={self.portal}")
        if self.demo:
            arguments.append("--demo")
        for name, value in self.options:
            flag = "--" + name.replace("_", "-")
            if value is True:
                arguments.append(flag)
            elif value is not False:
                arguments.append(f"{flag}={value}")
        return arguments


class ReplyError(Exception):
    """A reply with the status of an error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def as_os_error(self, path: str) -> OSError:
        """The error that a program would get from a file system."""
        kinds: Mapping[int, tuple[type[OSError], int]] = {
            403: (PermissionError, errno.EACCES),
            404: (FileNotFoundError, errno.ENOENT),
            409: (IsADirectoryError, errno.EISDIR),
            412: (OSError, errno.ESTALE),
            503: (BlockingIOError, errno.EBUSY),
            504: (TimeoutError, errno.ETIMEDOUT),
            507: (OSError, errno.ENOSPC),
        }
        kind, number = kinds.get(self.status, (IcosfsError, errno.EIO))
        return kind(number, self.reason, path)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=REPLY_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        # The path of a socket has at most 107 bytes: deeper ones through a descriptor.
        folder, name = os.path.split(self._path)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{descriptor}/{name}")
            except FileNotFoundError:
                # Without /proc, such as in a sandbox.
                connection.connect(self._path)
            finally:
                os.close(descriptor)
        except BaseException:
            connection.close()
            raise
        self.sock = connection


class Server:
    """A server, which is started when it is first needed. Safe to use from threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        """Forgets connections and address."""
        self._pid = os.getpid()
        self._address: tuple[str, str] | None = None
        self._unused: list[_UnixConnection] = []

    def after_fork(self) -> None:
        """Forgets what belongs to the parent: its locks and connections."""
        self._lock = threading.Lock()
        # Not closed: that would be sent to the server in the parent's name.
        for connection in self._unused:
            if connection.sock is not None:
                connection.sock.detach()
                connection.sock = None
        self._reset()

    def _locate(self, stale: tuple[str, str] | None) -> tuple[str, str]:
        """Socket and secret of the server; starts one if none runs. ``stale`` is an
        address that no longer works."""
        with self._lock:
            if self._address is None or self._address == stale:
                arguments = [
                    "serve",
                    "--background",
                    "--reuse",
                    "--json",
                    *self._settings.arguments(),
                ]
                if not any(one.startswith("--idle-timeout=") for one in arguments):
                    arguments.append(f"--idle-timeout={IDLE_TIMEOUT}")
                ready = json.loads(run(arguments, timeout=START_TIMEOUT))
                with open(ready["secret_file"], encoding="ascii") as file:
                    secret = file.read().strip()
                self._address = (str(ready["socket"]), secret)
                self._unused = []
            return self._address

    @contextlib.contextmanager
    def request(
        self,
        path: str,
        query: Mapping[str, str],
        byte_range: str | None = None,
        tag: str | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Requests a path of the tree. The connection is reused if all was read.

        Args:
            tag: the tag of the bytes that are expected; the reply has others with the
                status 412.

        Raises:
            ReplyError: the server reports an error.
            OSError: the server cannot be started, or the connection broke.
        """
        target = "/" + urllib.parse.quote(path, safe="/-._~")
        target += "?" + urllib.parse.urlencode(query)
        headers = {"Accept": "application/json, */*"}
        if byte_range is not None:
            headers["Range"] = byte_range
        if tag is not None:
            headers["If-Match"] = tag
        connection, response = self._send(target, headers)
        try:
            if response.status not in (200, 206, 416):
                raise _error(response)
            yield response
        except BaseException:
            connection.close()
            raise
        # Only a connection whose reply was read to its end can be used again.
        if not response.isclosed() or response.will_close:
            connection.close()
            return
        with self._lock:
            if len(self._unused) < MAX_UNUSED:
                self._unused.append(connection)
                return
        connection.close()

    def _send(
        self, target: str, headers: dict[str, str]
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        stale: tuple[str, str] | None = None
        last: Exception | None = None
        # A kept connection may have been closed, and a server may have ended since: each
        # is tried once.
        for attempt in range(3):
            address = self._locate(stale)
            with self._lock:
                reused = self._unused.pop() if self._unused and attempt == 0 else None
            connection = reused or _UnixConnection(address[0])
            headers["Authorization"] = f"Bearer {address[1]}"
            try:
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                last = error
                stale = None if reused else address
                continue
            if response.status == 401:
                # Another server has the socket now.
                connection.close()
                last = _error(response)
                stale = address
                continue
            return connection, response
        raise IcosfsError(f"cannot reach the server: {last}") from last

    def json(self, path: str, query: Mapping[str, str]) -> Any:
        """A reply of JSON."""
        with self.request(path, query) as response:
            return json.loads(response.read())

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a file from ``start`` to ``end``, which are not negative; fewer
        at its end."""
        return self.read_version(path, start, end, None)[0]

    def read_version(
        self, path: str, start: int | None, end: int | None, tag: str | None
    ) -> tuple[bytes, str | None]:
        """Bytes as `read` returns them, and their tag if they have one: further reads
        with it are of the same version of the file, or fail."""
        if start is None and end is None:
            with self.request(path, FILE, tag=tag) as response:
                return response.read(), response.getheader("ETag")
        start = start or 0
        if end is not None and end <= start:
            return b"", tag
        last = "" if end is None else str(end - 1)
        with self.request(path, FILE, f"bytes={start}-{last}", tag) as response:
            body = response.read()
            if response.status == 416:
                # The range lies after the end.
                body = b""
            elif response.status == 200:
                # Of a file that is generated when it is read, there are no ranges.
                body = body[start:end]
            return body, response.getheader("ETag")

    def suffix(self, path: str, count: int) -> bytes:
        """The last ``count`` bytes of a file."""
        if count <= 0:
            return b""
        with self.request(path, FILE, byte_range=f"bytes=-{count}") as response:
            body = response.read()
            return b"" if response.status == 416 else body[-count:]


def _error(response: http.client.HTTPResponse) -> ReplyError:
    body = response.read()
    try:
        reason = str(json.loads(body)["error"]["reason"])
    except (ValueError, KeyError, TypeError):
        reason = body.decode("utf-8", "replace").strip() or f"HTTP {response.status}"
    return ReplyError(response.status, reason)


_servers: dict[Settings, Server] = {}
_servers_lock = threading.Lock()


def server_for(settings: Settings) -> Server:
    """The server with these settings, shared by all of this process."""
    with _servers_lock:
        if settings not in _servers:
            _servers[settings] = Server(settings)
        return _servers[settings]


def _after_fork() -> None:
    global _servers_lock
    _servers_lock = threading.Lock()
    for server in _servers.values():
        server.after_fork()


os.register_at_fork(after_in_child=_after_fork)
