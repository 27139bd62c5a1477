"""64 readers of 2 GiB through a cache of 200 MiB: peak use of disk and memory."""

import pathlib
import random
import subprocess
import threading

from stage import daemon_of, status_of

MIB = 1 << 20
FILES, SIZE, READERS = 64, 32 * MIB, 64
CACHE, MEMORY = 200 * MIB, 256 * MIB


def on_disk(folder):
    """Bytes used by the cache, without the catalog."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and "catalog" not in path.name:
                total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def run(stage):
    # Sizes differ, since two files of one size would be the same object.
    portal = stage.demo(*(option for n in range(FILES) for option in ("--file", SIZE + n)))
    cache = stage.work / "cache"
    options = [f"--cache-size={CACHE}", f"--memory={MEMORY}"]
    with stage.mount(portal, *options, cache=cache) as mount:
        paths = sorted((mount / "objects").glob("*.bin"))
        assert len(paths) == FILES
        random.Random(1).shuffle(paths)
        over, most = threading.Event(), [0]

        def watch():
            while not over.wait(0.2):
                most[0] = max(most[0], on_disk(cache))

        watcher = threading.Thread(target=watch)
        watcher.start()
        readers = [subprocess.Popen(["sha256sum", path], stdout=subprocess.DEVNULL) for path in paths[:READERS]]
        failed = sum(reader.wait() != 0 for reader in readers)
        over.set()
        watcher.join()
        peak = status_of(daemon_of(mount), "VmHWM") << 10
    stage.figure("most on the disk", most[0] / MIB, "MiB")
    stage.figure("most memory (VmHWM)", peak / MIB, "MiB")
    stage.bar("readers that failed", failed, at_most=0)
    stage.bar("disk, x --cache-size", most[0] / CACHE, at_most=1.05)
    stage.bar("memory, x (--memory + 96 MiB)", peak / (MEMORY + 96 * MIB), at_most=1)
