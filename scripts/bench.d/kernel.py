"""The kernel settings of a mount, each compared with the kernel's default.

`read_ahead_kb` for a sequential reader; `max_background` for 32 random readers.
Results only, without targets: docs/performance.md has the chosen values.
"""

import os
import pathlib
import random
import subprocess
import threading

from sequential import GIB, original
from stage import cat, settle, timed

CONNECTIONS = pathlib.Path("/sys/fs/fuse/connections")
READS, LENGTH, READERS = 64, 4 << 10, 32


def device_of(mount):
    """The mount's device number, as used in /sys/class/bdi and /sys/fs/fuse."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(mount):
            return fields[2]
    raise LookupError(f"{mount} is not mounted")


def read_ahead(mount, kibibytes):
    pathlib.Path(f"/sys/class/bdi/{device_of(mount)}/read_ahead_kb").write_text(str(kibibytes))


def background(mount, requests):
    if not any(CONNECTIONS.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", "none", CONNECTIONS], check=True)
    (CONNECTIONS / device_of(mount).split(":")[1] / "max_background").write_text(str(requests))


def read_at_random(path):
    def reader(seed):
        offsets = random.Random(seed)
        file = os.open(path, os.O_RDONLY)
        for _ in range(READS):
            os.pread(file, LENGTH, offsets.randrange(GIB - LENGTH))
        os.close(file)

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(stage):
    portal = stage.demo("--file", "1G")
    folder, name = original(stage, portal)
    url = stage.nginx(folder)

    def measure(change, value, read):
        def run():
            with stage.mount(portal, data=url) as mount:
                path = mount / f"objects/{name}.bin"
                change(mount, value)
                seconds = timed(read, path)
            settle()
            return seconds

        return run

    medians = stage.in_turn(rehearse=True, **{f"read_ahead_kb {kb}": measure(read_ahead, kb, cat) for kb in (128, 1024, 4096)})
    for who, seconds in medians.items():
        stage.figure(f"cold read, {who}", GIB / seconds / 1e6, "MB/s")
    runs = {f"max_background {n}": measure(background, n, read_at_random) for n in (16, 512)}
    for who, seconds in stage.in_turn(rehearse=True, **runs).items():
        stage.figure(f"{READERS} random readers, {who}", READERS * READS / seconds, "reads/s")
