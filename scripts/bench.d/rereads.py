"""Rereading a cached 1 GiB original.

From the kernel's page cache, and, after dropping that, from the disk cache (with
passthrough if the kernel supports it). Compared with reading the same file
directly, and with rclone with a full cache.
"""

import pathlib

from sequential import GIB, original
from stage import cat, drop_caches, timed


def run(stage):
    portal = stage.demo("--file", "1G")
    folder, name = original(stage, portal)
    url = stage.nginx(folder)
    local = folder / name
    with stage.mount(portal, data=url) as mount, stage.rclone(url, "full") as rclone:
        ours, theirs = mount / f"objects/{name}.bin", rclone / name
        paths = {"local": local, "icosfs": ours, "rclone": theirs}
        for path in (ours, theirs):
            cat(path)

        def cold(path):
            def run():
                drop_caches()
                return timed(cat, path)

            return run

        for state in ("page cache", "disk cache"):
            if state == "page cache":
                for path in paths.values():
                    cat(path)
                runs = {who: lambda path=path: timed(cat, path) for who, path in paths.items()}
            else:
                runs = {who: cold(path) for who, path in paths.items()}
            medians = stage.in_turn(**runs)
            for who, seconds in medians.items():
                stage.figure(f"{state}, {who}", GIB / seconds / 1e9, "GB/s")
            stage.bar(f"{state}, x local", medians["local"] / medians["icosfs"], at_least=0.9)
            stage.bar(f"{state}, x rclone full", medians["rclone"] / medians["icosfs"], at_least=1)
        served = pathlib.Path(mount, ".icosfs/status.json").read_text()
        stage.figure("opened for passthrough", float('"passed_through": 0' not in served), "(1 = yes)")
