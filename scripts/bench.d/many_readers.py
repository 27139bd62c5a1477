"""32 readers of 64 tables each, which must be downloaded once; then an idle mount.

The demo portal counts the requests.
"""

import contextlib
import pathlib
import subprocess
import time

from small_tables import requests
from stage import cpu_seconds, daemon_of, status_of

READERS, TABLES = 32, 64


def run(stage):
    shapes = [option for n in range(TABLES) for option in ("--table", f"8x{20_000 + n}")]
    portal = stage.demo(*shapes)
    with stage.mount(portal) as mount:
        daemon = daemon_of(mount)
        tables = sorted((mount / "objects").glob("*.csv"), key=lambda path: -path.stat().st_size)[:TABLES]
        before = len(requests(portal))
        started = time.perf_counter()
        readers = [subprocess.Popen(["cat", *tables], stdout=subprocess.DEVNULL) for _ in range(READERS)]
        if any(reader.wait() for reader in readers):
            raise OSError("a reader failed")
        seconds = time.perf_counter() - started
        fetches = sum(request["path"].startswith("/cpb") for request in requests(portal)[before:])
        stage.figure("32 readers x 64 tables", seconds, "s")
        stage.figure("CPU of the daemon", cpu_seconds(daemon), "s")
        stage.figure("peak memory of the daemon", status_of(daemon, "VmHWM") / 1024, "MiB")
        stage.bar("fetches of 64 tables", fetches, at_least=TABLES, at_most=TABLES)
    with stage.mount(portal) as mount:
        daemon = daemon_of(mount)
        list((mount / "objects").iterdir())
        time.sleep(30)  # let pending work finish, and idle files and threads end
        before = wakeups(daemon)
        time.sleep(10)
        # Threads that were idle for long have ended and are not counted.
        woken = sum(count - before.get(task, 0) for task, count in wakeups(daemon).items())
        stage.bar("wake-ups a second of an idle mount", woken / 10, at_most=0)
        stage.bar("MiB resident of an idle mount", status_of(daemon, "VmRSS") / 1024, at_most=25)


def wakeups(pid):
    """The number of voluntary context switches of each thread so far."""
    tasks = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # The thread has just ended.
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    tasks[task.name] = int(line.split()[1])
    return tasks
