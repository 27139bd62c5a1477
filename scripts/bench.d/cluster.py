"""Machines that share a cache in a folder: one download, and reads of what it left.

Each machine is a mount with a local cache of its own. nginx limits each connection to
8 MiB/s at first, and not at all when a second machine reads what the first one shared;
rclone, as a plain client of the same folder, copies the segments for comparison.
"""

import pathlib
import shutil
import subprocess
import tempfile
import threading

from stage import ICOSFS, cat, drop_caches, settle, timed

GIB = 1 << 30
MACHINES = 4
# Half a minute at 8 MiB/s.
SHORT = 256 << 20


def original(stage, portal, size):
    """A folder with the demo's original of `size` bytes under its id, for nginx."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=stage.work, prefix="objects-"))
    folder.chmod(0o755)
    with stage.mount(portal) as mount:
        found = [path for path in (mount / "objects").glob("*.bin") if path.stat().st_size == size]
        (folder / found[0].stem).write_bytes(found[0].read_bytes())
    return folder, found[0].stem


def shared(stage):
    """Options of machines that share a new folder, and the folder."""
    home = pathlib.Path(tempfile.mkdtemp(dir=stage.work, prefix="shared-"))
    (home / "store").mkdir()
    subprocess.run([ICOSFS, "cluster", "init", home / "key"], check=True, stdout=subprocess.DEVNULL)
    return [f"--shared-cache=file://{home}/store", f"--shared-key-file={home}/key"], home / "store"


def at_once(stage):
    """Reads on four machines at once: the slowest beside the fastest."""
    portal = stage.demo("--file", SHORT)
    folder, name = original(stage, portal, SHORT)
    ratios, counts = [], []
    for _ in range(stage.rounds):
        url = stage.nginx(folder, 20, per_connection="8m")
        options, store = shared(stage)
        seconds = [0.0] * MACHINES

        def read(number):
            with stage.mount(portal, *options, data=url) as mount:
                path = mount / f"objects/{name}.bin"
                path.stat()
                ready.wait()
                seconds[number] = timed(lambda: cat(path))

        ready = threading.Barrier(MACHINES)
        machines = [threading.Thread(target=read, args=(number,)) for number in range(MACHINES)]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.join()
        # Each mount opens a connection before its first read.
        counts.append(stage.access_log.read_text().count("GET /objects/"))
        ratios.append(max(seconds) / min(seconds))
        shutil.rmtree(store)
    stage.bar(f"{MACHINES} machines at once, last x first", max(ratios), at_most=1.15)
    stage.bar(f"{MACHINES} machines at once, data requests", max(counts), at_most=1)


def from_store(stage):
    """The first read of a second machine beside a copy by rclone."""
    portal = stage.demo("--file", "1G")
    folder, name = original(stage, portal, GIB)
    url = stage.nginx(folder)
    options, store = shared(stage)
    with stage.mount(portal, *options, data=url) as mount:
        cat(mount / f"objects/{name}.bin")
    segments = sorted(path for path in store.rglob("*") if path.name.isdigit())
    assert len(segments) == GIB >> 23, len(segments)

    def icosfs():
        drop_caches()
        with stage.mount(portal, *options, data=url) as mount:
            path = mount / f"objects/{name}.bin"
            path.stat()
            seconds = timed(lambda: cat(path))
        settle()
        return seconds

    def rclone():
        drop_caches()
        target = stage.work / "copy"
        command = ["rclone", "--config", stage.work / "none", "copy", store, target]
        seconds = timed(lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL))
        shutil.rmtree(target)
        settle()
        return seconds

    medians = stage.in_turn(icosfs=icosfs, rclone=rclone)
    for who, seconds in medians.items():
        stage.figure(f"second machine, {who}", GIB / seconds / 1e6, "MB/s")
    stage.bar("second machine, x rclone", medians["rclone"] / medians["icosfs"], at_least=0.7)


def run(stage):
    at_once(stage)
    from_store(stage)
