"""`icos://`, run by tests/python_package.rs against a demo portal.

`ICOSFS_TEST_MOUNT` is a mount of the same portal, `ICOSFS_TEST_TABLE` the id of a table.
"""

import asyncio
import concurrent.futures
import contextlib
import errno
import http.client
import os
import pathlib
import pickle
import signal
import socket
import sys
import time
from collections.abc import Iterator

import fsspec
import pytest

import icosfs
from icosfs import _server

MOUNT = pathlib.Path(os.environ["ICOSFS_TEST_MOUNT"])
TABLE = os.environ["ICOSFS_TEST_TABLE"]
CSV = f"objects/{TABLE}.csv"


def test_entry_point_of_the_wheel_is_the_filesystem() -> None:
    import tomllib

    with open("pyproject.toml", "rb") as file:
        entry = tomllib.load(file)["project"]["entry-points"]["fsspec.specs"]["icos"]
    module, name = entry.split(":")
    assert getattr(__import__(module), name) is icosfs.IcosFileSystem


def test_folders_are_those_of_the_mount(fs: icosfs.IcosFileSystem) -> None:
    for folder in ("", "objects", "stations", "stations/HTM", "datatypes"):
        names = sorted(os.path.basename(path) for path in fs.ls(folder, detail=False))
        assert names == sorted(os.listdir(MOUNT / folder)), folder
    for entry in fs.ls("stations/HTM"):
        path = MOUNT / entry["name"]
        assert entry["type"] == ("directory" if path.is_dir() else "file")


def test_glob_and_find_agree_with_the_mount(fs: icosfs.IcosFileSystem) -> None:
    pattern = "stations/HTM/*/*.parquet"
    expected = sorted(str(path.relative_to(MOUNT)) for path in MOUNT.glob(pattern))
    assert expected
    assert fs.glob(pattern) == expected
    assert fs.glob(f"icos://{pattern}") == expected
    files = [path for path in (MOUNT / "stations/HTM").rglob("*") if path.is_file()]
    assert fs.find("stations/HTM") == sorted(str(file.relative_to(MOUNT)) for file in files)


def test_bytes_are_those_of_the_mount(fs: icosfs.IcosFileSystem) -> None:
    for ending in ("csv", "parquet", "json"):
        path = f"objects/{TABLE}.{ending}"
        expected = (MOUNT / path).read_bytes()
        assert fs.cat_file(path) == expected, ending
        with fs.open(path) as file:
            assert file.read() == expected
            assert file.size == len(expected)
        assert fs.info(path)["size"] == len(expected)


def test_parts_are_those_of_the_file(fs: icosfs.IcosFileSystem) -> None:
    data = (MOUNT / CSV).read_bytes()
    n = len(data)
    cases = [(0, 10), (5, None), (None, 7), (-9, None), (-9, -2), (n - 2, n + 50), (n + 5, n + 9), (4, 4)]
    for start, end in cases:
        assert fs.cat_file(CSV, start, end) == data[start:end], (start, end)
    starts, ends = zip(*[(0, 3), (100, 200), (n - 5, n)])
    parts = fs.cat_ranges([CSV] * 3, starts, ends)
    assert parts == [data[a:b] for a, b in zip(starts, ends)]
    with fs.open(CSV, block_size=1000) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == data[-3:]
        file.seek(2500)
        buffer = bytearray(2000)
        assert file.readinto(buffer) == 2000
        assert bytes(buffer) == data[2500:4500]
        assert file.tell() == 4500


def test_parts_of_a_generated_file_are_parts(fs: icosfs.IcosFileSystem) -> None:
    path = ".icosfs/metrics"
    assert fs.cat_file(path, 0, 6) == fs.cat_file(path)[:6]
    assert len(fs.cat_file(path, -7)) == 7


def test_open_file_never_mixes_versions(fs: icosfs.IcosFileSystem) -> None:
    with fs.open(CSV, block_size=1000) as file:
        first = file.read(1000)
        assert first == (MOUNT / CSV).read_bytes()[:1000]
        assert file._tag
        # As if the file were another since.
        file._tag = '"other"'
        with pytest.raises(OSError, match="open it again") as raised:
            file.read()
        assert raised.value.errno == errno.ESTALE


def test_file_is_downloaded_completely_or_not_at_all(
    fs: icosfs.IcosFileSystem, tmp_path: pathlib.Path
) -> None:
    fs.get(CSV, str(tmp_path / "table.csv"))
    assert (tmp_path / "table.csv").read_bytes() == (MOUNT / CSV).read_bytes()
    with pytest.raises(FileNotFoundError):
        fs.get_file("objects/none.csv", str(tmp_path / "none.csv"))
    assert os.listdir(tmp_path) == ["table.csv"]


def test_what_is_missing_or_a_folder_has_the_usual_error(fs: icosfs.IcosFileSystem) -> None:
    for absent in ("objects/none.csv", "none", f"{CSV}/below", "objects/../README.md"):
        assert not fs.exists(absent)
        with pytest.raises(FileNotFoundError):
            fs.info(absent)
        with pytest.raises(FileNotFoundError):
            fs.cat_file(absent)
    for call in (fs.open, fs.cat_file):
        with pytest.raises(IsADirectoryError):
            call("objects")
    assert fs.isdir("objects") and not fs.isfile("objects")
    assert fs.isfile(CSV) and not fs.isdir(CSV)


def test_nothing_can_be_written(fs: icosfs.IcosFileSystem) -> None:
    calls = [
        lambda: fs.rm(CSV),
        lambda: fs.pipe("objects/new", b""),
        lambda: fs.mkdir("new"),
        lambda: fs.touch("objects/new"),
        lambda: fs.mv(CSV, "objects/new"),
        lambda: fs.open(CSV, "wb"),
        lambda: fs.open(CSV, "ab"),
    ]
    for call in calls:
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.EROFS


def test_failure_has_the_reason_of_the_program(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a login and with an empty cache.
    monkeypatch.delenv("ICOSFS_TOKEN")
    monkeypatch.setenv("ICOSFS_CACHE_DIR", str(tmp_path))
    fs = icosfs.IcosFileSystem(options={"metadata-ttl": 601, "idle-timeout": 5})
    with pytest.raises(PermissionError, match="icosfs login"):
        fs.cat_file(CSV)


def test_filesystem_and_open_file_can_be_pickled(fs: icosfs.IcosFileSystem) -> None:
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file(CSV, 0, 9) == fs.cat_file(CSV, 0, 9)
    with fsspec.open(f"icos://{CSV}") as file:
        copy = pickle.loads(pickle.dumps(file))
        assert copy.read(9) == file.read(9)


def test_forked_children_read(fs: icosfs.IcosFileSystem) -> None:
    expected = fs.cat_file(CSV, 0, 1000)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            same = fs.cat_file(CSV, 0, 1000) == expected
            same = same and icosfs.IcosFileSystem().ls("", detail=False) is not None
            with fs.open(CSV) as file:
                same = same and file.read(1000) == expected
            os._exit(0 if same else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    # And the parent's connections are its own still.
    assert fs.cat_file(CSV, 0, 1000) == expected


def test_threads_read_at_the_same_time(fs: icosfs.IcosFileSystem) -> None:
    data = (MOUNT / CSV).read_bytes()

    def part(at: int) -> bool:
        return fs.cat_file(CSV, at, at + 100) == data[at : at + 100]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(part, range(0, 20_000, 100)))


def test_asynchronous_reads_agree() -> None:
    async def read() -> None:
        fs = icosfs.IcosFileSystem(asynchronous=True)
        data = (MOUNT / CSV).read_bytes()
        parts = await asyncio.gather(*[fs._cat_file(CSV, n, n + 9) for n in range(50)])
        assert parts == [data[n : n + 9] for n in range(50)]
        file = await fs.open_async(CSV)
        assert await file.read(20) == data[:20]
        assert await file.read(-1) == data[20:]
        await file.close()

    asyncio.run(read())


def test_server_that_ended_is_started_again(fs: icosfs.IcosFileSystem) -> None:
    expected = fs.cat_file(CSV, 0, 100)
    status = fs.server.json(".icosfs/status.json", {})
    os.kill(status["pid"], signal.SIGKILL)
    while os.path.exists(f"/proc/{status['pid']}"):
        time.sleep(0.01)
    assert fs.cat_file(CSV, 0, 100) == expected
    assert fs.server.json(".icosfs/status.json", {})["pid"] != status["pid"]


def test_all_processes_use_one_server(fs: icosfs.IcosFileSystem) -> None:
    pid = fs.server.json(".icosfs/status.json", {})["pid"]
    import subprocess

    script = (
        "import icosfs; "
        "print(icosfs.IcosFileSystem().server.json('.icosfs/status.json', {})['pid'])"
    )
    command = [sys.executable, "-c", script]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert {int(one.communicate()[0]) for one in running} == {pid}


def test_socket_at_the_end_of_a_long_path_can_be_used(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("ICOSFS_CACHE_DIR", str(deep))
    fs = icosfs.IcosFileSystem(options={"idle-timeout": 5})
    assert "README.md" in fs.ls("", detail=False)
    assert len(fs.server._locate(None)[0]) > 108


def test_unknown_size_is_none_unless_it_is_asked_for() -> None:
    fs = icosfs.IcosFileSystem(exact_size=False)
    listed = {entry["name"]: entry for entry in fs.ls("objects")}
    unread = next(
        entry for entry in listed.values() if entry.get("size_is_exact") is False
    )
    assert unread["size"] is None
    assert fs.info(unread["name"])["size"] is None


def test_settings_become_arguments() -> None:
    settings = _server.Settings("sites", True, (("level", "1,2"), ("no_usage_report", True)))
    expected = ["--portal=sites", "--demo", "--level=1,2", "--no-usage-report"]
    assert settings.arguments() == expected


def test_reply_that_ends_early_leaves_no_file(
    fs: icosfs.IcosFileSystem, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`http.client` takes such a reply for complete."""

    request = fs.server.request

    @contextlib.contextmanager
    def cut_short(
        path: str,
        query: dict[str, str],
        byte_range: str | None = None,
        tag: str | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        if query is not _server.FILE:
            with request(path, query, byte_range, tag) as response:
                yield response
            return
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 40)
        theirs.close()
        response = http.client.HTTPResponse(ours)
        response.begin()
        yield response

    monkeypatch.setattr(fs.server, "request", cut_short)
    with pytest.raises(OSError, match="40 of 100 bytes"):
        fs.get_file(CSV, str(tmp_path / "table.csv"))
    assert list(tmp_path.iterdir()) == []
