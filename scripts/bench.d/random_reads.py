"""1 000 random reads of 64 KiB in a 1 GiB original at 20 ms.

nginx serves the same file to icosfs (as its data service) and rclone. Each
mount is fresh; both use the same seeded offsets.
"""

import os
import random
import time

from sequential import GIB, original
from stage import settle

READS, LENGTH, RTT = 1000, 64 << 10, 20


def run(stage):
    portal = stage.demo("--file", "1G")
    folder, name = original(stage, portal)
    url = stage.nginx(folder, RTT)
    counts = []

    def icosfs():
        with stage.mount(portal, data=url) as mount:
            path = mount / f"objects/{name}.bin"
            path.stat()
            before = stage.requests_so_far()
            seconds = read_at_random(path)
            counts.append(stage.requests_so_far() - before)
        settle()
        return seconds

    def rclone(mode):
        def run():
            with stage.rclone(url, mode) as mount:
                seconds = read_at_random(mount / name)
            settle()
            return seconds

        return run

    medians = stage.in_turn(rehearse=True, icosfs=icosfs, rclone_off=rclone("off"), rclone_full=rclone("full"))
    for who, seconds in medians.items():
        stage.figure(f"{who}", READS / seconds, "reads/s")
    best = min(medians["rclone_off"], medians["rclone_full"])
    stage.bar("random reads, x rclone", best / medians["icosfs"], at_least=3)
    stage.bar("random reads, data requests", max(counts), at_most=20)


def read_at_random(path):
    """The duration of the reads in sequence, in seconds."""
    offsets = random.Random(2026)
    file = os.open(path, os.O_RDONLY)
    started = time.perf_counter()
    for _ in range(READS):
        at = offsets.randrange(GIB - LENGTH)
        if len(os.pread(file, LENGTH, at)) != LENGTH:
            raise OSError("a short read")
    seconds = time.perf_counter() - started
    os.close(file)
    return seconds
