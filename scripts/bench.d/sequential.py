"""A 1 GiB original read once from start to end, at 0, 20 and 100 ms.

nginx serves the same file to icosfs (as its data service), curl and rclone;
latency is a sleep in the server before each response. Each mount is fresh.
"""

import pathlib
import re

from stage import cat, cpu_seconds, curl, daemon_of, settle, timed

GIB = 1 << 30


def object_of(portal_mount):
    """The id of the demo's large file, by its size."""
    for path in pathlib.Path(portal_mount, "objects").iterdir():
        if re.fullmatch(r"[\w-]{24}\.bin", path.name) and path.stat().st_size == GIB:
            return path.stem
    raise LookupError("the demo lists no 1 GiB original")


def original(stage, portal):
    """A folder with the demo's large original under its id, for nginx."""
    folder = stage.work / "objects"
    folder.mkdir()
    with stage.mount(portal) as mount:
        name = object_of(mount)
        (folder / name).write_bytes((mount / f"objects/{name}.bin").read_bytes())
    return folder, name


def run(stage):
    portal = stage.demo("--file", "1G")
    folder, name = original(stage, portal)
    for rtt in (0, 20, 100):
        url = stage.nginx(folder, rtt)
        counts, cpu = [], []

        def icosfs():
            with stage.mount(portal, data=url) as mount:
                path = mount / f"objects/{name}.bin"
                path.stat()
                before = stage.requests_so_far()
                seconds = timed(lambda: cat(path))
                counts.append(stage.requests_so_far() - before)
                cpu.append(cpu_seconds(daemon_of(mount)))
            settle()
            return seconds

        def rclone(mode):
            def run():
                with stage.rclone(url, mode) as mount:
                    seconds = timed(lambda: cat(mount / name))
                settle()
                return seconds

            return run

        curl(f"{url}/objects/{name}")  # warm the server's page cache
        medians = stage.in_turn(
            rehearse=True,
            icosfs=icosfs,
            curl=lambda: curl(f"{url}/objects/{name}"),
            rclone_off=rclone("off"),
            rclone_full=rclone("full"),
        )
        for who, seconds in medians.items():
            stage.figure(f"{rtt} ms, {who}", GIB / seconds / 1e6, "MB/s")
        rclone_best = min(medians["rclone_off"], medians["rclone_full"])
        stage.figure(f"{rtt} ms, CPU of icosfs", min(cpu), "s a GiB")
        stage.bar(f"cold read at {rtt} ms, x curl", medians["curl"] / medians["icosfs"], at_least=0.35)
        stage.bar(f"cold read at {rtt} ms, x rclone", rclone_best / medians["icosfs"], at_least=2 if rtt else 3)
        stage.bar(f"cold read at {rtt} ms, data requests", max(counts), at_most=1)

