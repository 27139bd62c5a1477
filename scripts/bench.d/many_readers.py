"""32 readers of 64 tables each: fetched once; then an idle mount.

Against the demo portal, which counts its requests.
"""

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
        time.sleep(5)  # what was begun by then is over
        before = wakeups(daemon)
        time.sleep(10)
        stage.bar("wake-ups a second of an idle mount", (wakeups(daemon) - before) / 10, at_most=0)
        stage.bar("MiB resident of an idle mount", status_of(daemon, "VmRSS") / 1024, at_most=25)


def wakeups(pid):
    """How often any thread of the process went to sleep by itself."""
    return sum(
        int(line.split()[1])
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
