"""A portal that accepts connections but never responds: which readers wait, and
how long.

16 readers wait for an original and a table while cached files are read and
folders are listed; then Ctrl-C interrupts the readers.
"""

import json
import os
import signal
import statistics
import subprocess
import time
import urllib.request

STUCK, READS, ROUNDS = 16, 1000, 7


def run(stage):
    portal = stage.demo("--file", str(8 << 20), "--file", str((4 << 20) + 1), "--table", "8x40000", "--table", "8x30000")
    with stage.mount(portal) as mount:
        objects = mount / "objects"
        files = sorted(objects.glob("*.bin"), key=lambda path: path.stat().st_size)
        cached, silent = files[-2], files[-1]
        *_, silent_table, table = sorted(objects.glob("*.csv"), key=lambda path: path.stat().st_size)
        for path in (cached, table):
            path.read_bytes()
        stuck = [silent, silent_table]
        stall(portal, [path.name.split(".")[0] for path in stuck])
        freed, calm, beside = [], [], []
        # In turn, so that other activity of the machine affects both alike.
        for _ in range(ROUNDS):
            # The same pause as below: a virtual machine is slow after a pause.
            time.sleep(1)
            calm.append(latencies(objects, cached, table))
            cats = [subprocess.Popen(["cat", stuck[n % 2]], stdout=subprocess.DEVNULL) for n in range(STUCK)]
            time.sleep(1)
            if any(cat.poll() is not None for cat in cats):
                raise OSError("a reader was not stuck")
            beside.append(latencies(objects, cached, table))
            freed += [interrupted(cat) for cat in cats]
        for name in calm[0]:
            alone, crowded = (statistics.median(run[name] for run in runs) for runs in (calm, beside))
            stage.figure(f"{name}, calm", alone * 1e6, "us")
            stage.figure(f"{name}, beside {STUCK} stuck readers", crowded * 1e6, "us")
            stage.bar(f"{name} beside stuck readers / calm", crowded / alone, at_most=2)
        stage.figure("ctrl-C frees a stuck cat, median", statistics.median(freed) * 1000, "ms")
        stage.bar("s until ctrl-C has freed the slowest stuck cat", max(freed), at_most=0.5)


def stall(portal, ids):
    rules = {"rules": [{"object": id_, "fault": {"stall": {"after": 0}}} for id_ in ids]}
    request = urllib.request.Request(portal["control"] + "/faults", json.dumps(rules).encode(), method="PUT")
    urllib.request.urlopen(request).read()


def latencies(objects, cached, table):
    """The 99th percentiles, in seconds, of operations without the portal."""
    return {
        "p99 of opening and reading 64 KiB of a cached original": p99(lambda: part(cached)),
        "p99 of opening and reading 64 KiB of a cached table": p99(lambda: part(table)),
        "p99 of ls": p99(lambda: os.listdir(objects)),
    }


def part(path):
    with open(path, "rb", buffering=0) as file:
        # Bypass the kernel's page cache, or only that would be measured.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(file.fileno(), 64 << 10, 1 << 20)


def p99(work):
    times = []
    for _ in range(READS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return sorted(times)[READS * 99 // 100]


def interrupted(cat):
    started = time.perf_counter()
    cat.send_signal(signal.SIGINT)
    cat.wait()
    return time.perf_counter() - started
