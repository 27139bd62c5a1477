"""A 1 GiB original over eight connections, on a link where one is slow.

nginx limits each connection to 8 MiB/s, at 20 and 100 ms. For comparison with
`icosfs mount --connections 8`, eight curls download an eighth of the file each.
"""

import subprocess

from sequential import GIB, original
from stage import cat, settle, timed

CONNECTIONS = 8


def curls(url):
    """Downloads a URL with eight curls, a part each, and discards the bytes."""
    part = GIB // CONNECTIONS
    ranges = [f"{n * part}-{(n + 1) * part - 1}" for n in range(CONNECTIONS)]
    running = [subprocess.Popen(["curl", "-sSf", "-o", "/dev/null", "-r", wanted, url]) for wanted in ranges]
    if any([curl.wait() for curl in running]):
        raise OSError("a curl failed")


def run(stage):
    portal = stage.demo("--file", "1G")
    folder, name = original(stage, portal)
    for rtt in (20, 100):
        url = stage.nginx(folder, rtt, per_connection="8m")
        counts = []

        def icosfs():
            with stage.mount(portal, "--connections", CONNECTIONS, data=url) as mount:
                path = mount / f"objects/{name}.bin"
                path.stat()
                before = stage.requests_so_far()
                seconds = timed(lambda: cat(path))
                counts.append(stage.requests_so_far() - before)
            settle()
            return seconds

        medians = stage.in_turn(icosfs=icosfs, curls=lambda: curls(f"{url}/objects/{name}"))
        for who, seconds in medians.items():
            stage.figure(f"{rtt} ms, {who}", GIB / seconds / 1e6, "MB/s")
        stage.bar(f"8 connections at {rtt} ms, x 8 curls", medians["curls"] / medians["icosfs"], at_least=0.9)
        stage.bar(f"8 connections at {rtt} ms, data requests", max(counts), at_most=CONNECTIONS + 1)
