"""A portal that accepts, and never answers: who is held up, and for how long.

16 readers are stuck on one file while another, cached, is read and folders are
listed; then ctrl-C frees them.
"""

import json
import os
import signal
import subprocess
import time
import urllib.request

STUCK, READS = 16, 4000


def run(stage):
    portal = stage.demo("--file", str(8 << 20), "--file", str((4 << 20) + 1), "--table", "8x40000")
    with stage.mount(portal) as mount:
        objects = mount / "objects"
        files = sorted(objects.glob("*.bin"), key=lambda path: path.stat().st_size)
        cached, silent = files[-2], files[-1]
        table = max(objects.glob("*.csv"), key=lambda path: path.stat().st_size)
        for path in (cached, table):
            path.read_bytes()
        calm = latencies(objects, cached, table)
        stall(portal, silent.name.split(".")[0])
        cats = [subprocess.Popen(["cat", silent], stdout=subprocess.DEVNULL) for _ in range(STUCK)]
        time.sleep(1)
        if any(cat.poll() is not None for cat in cats):
            raise OSError("a reader was not stuck")
        beside = latencies(objects, cached, table)
        for name in calm:
            stage.figure(f"{name}, calm", calm[name] * 1e6, "us")
            stage.figure(f"{name}, beside {STUCK} stuck readers", beside[name] * 1e6, "us")
            stage.bar(f"{name} beside stuck readers / calm", beside[name] / calm[name], at_most=2)
        freed = [interrupted(cat) for cat in cats]
        stage.figure("ctrl-C frees a stuck cat, median", sorted(freed)[STUCK // 2] * 1000, "ms")
        stage.bar("s until ctrl-C has freed the slowest stuck cat", max(freed), at_most=0.5)


def stall(portal, id_):
    rules = {"rules": [{"object": id_, "fault": {"stall": {"after": 0}}}]}
    request = urllib.request.Request(portal["control"] + "/faults", json.dumps(rules).encode(), method="PUT")
    urllib.request.urlopen(request).read()


def latencies(objects, cached, table):
    """The 99th percentiles, in seconds, of what does not need the portal."""
    return {
        "p99 of opening and reading 64 KiB of a cached original": p99(lambda: part(cached)),
        "p99 of opening and reading 64 KiB of a cached table": p99(lambda: part(table)),
        "p99 of ls": p99(lambda: os.listdir(objects)),
    }


def part(path):
    with open(path, "rb", buffering=0) as file:
        # Past the kernel's pages, or only those would be measured.
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
