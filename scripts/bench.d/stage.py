"""The basis of every part of the benchmark: portals, mounts, peers, ratios.

A part is a file in this folder with a function `run(stage)`. It measures with
`stage.in_turn(...)`, so that other activity of the machine affects all
contestants alike, and compares ratios of medians with targets by
`stage.bar(...)`. Times depend on the machine; ratios should not.
"""

import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ICOSFS = ROOT / "target/dist/icosfs"
# Seconds after which starting a server or a mount has failed.
PATIENCE = 60


class Stage:
    """One run of the benchmark: a work folder, results, and targets."""

    def __init__(self, part, rounds):
        self.part = part
        self.rounds = rounds
        self.figures = []
        self.bars = []
        self._open = contextlib.ExitStack()
        # On a disk, not in memory, like a user's cache.
        work = ROOT / "target/bench"
        work.mkdir(parents=True, exist_ok=True)
        self.work = pathlib.Path(tempfile.mkdtemp(dir=work, prefix=f"{part}-"))
        self._open.callback(shutil.rmtree, self.work, ignore_errors=True)

    def close(self):
        """Ends all servers and mounts that the part has started."""
        self._open.close()

    # Figures

    def in_turn(self, rounds=None, rehearse=False, **contestants):
        """Runs the contestants in turn, round after round; returns their medians.

        A contestant returns its own measure, or None for the seconds it took.
        Whoever needs much memory should `rehearse`, and is measured right after
        that: a virtual machine's host may have taken back what was free for some
        seconds, and to get it anew costs as much as to fill it.
        """
        results = {name: [] for name in contestants}
        for _ in range(rounds or self.rounds):
            for name, run in contestants.items():
                if rehearse:
                    run()
                started = time.perf_counter()
                measure = run()
                took = time.perf_counter() - started
                results[name].append(took if measure is None else measure)
        return {name: statistics.median(runs) for name, runs in results.items()}

    def figure(self, measure, value, unit):
        """Records a result and prints it."""
        self.figures.append({"measure": measure, "value": value, "unit": unit})
        print(f"    {measure}: {value:.4g} {unit}", flush=True)

    def bar(self, measure, ratio, at_least=None, at_most=None):
        """Records a ratio (or a count) and whether it meets its target."""
        held = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
        self.bars.append(
            {"measure": measure, "ratio": ratio, "at_least": at_least, "at_most": at_most, "held": held}
        )
        wish = f">= {at_least}" if at_least is not None else f"<= {at_most}"
        print(f"  {'ok  ' if held else 'MISS'} {measure}: {ratio:.3g} (bar {wish})", flush=True)

    # Servers

    def demo(self, *options):
        """Starts a demo portal; returns its line of JSON as a dict."""
        command = [ICOSFS, "demo", *map(str, options)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._open.callback(stop, server)
        line = server.stdout.readline()
        if not line:
            sys.exit("the demo portal did not start")
        return json.loads(line)

    def nginx(self, folder, rtt=0, per_connection=None):
        """Starts nginx with `folder` as the data service's `/objects/`; returns
        its URL.

        `rtt` milliseconds pass before each answer; `per_connection` bounds the
        bytes a second of one connection (e.g. "8m").
        """
        home = pathlib.Path(tempfile.mkdtemp(dir=self.work, prefix="nginx-"))
        port = free_port()
        modules = pathlib.Path("/usr/lib/nginx/modules")
        sleep = f"access_by_lua_block {{ ngx.sleep({rtt / 1000}) }}" if rtt else ""
        limit = f"limit_rate {per_connection};" if per_connection else ""
        (home / "nginx.conf").write_text(f"""
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
user root;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log {home}/access.log;
  sendfile on; tcp_nopush on; keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{port};
    location /objects/ {{ alias {folder}/; autoindex on; {sleep} {limit} }}
  }}
}}
""")
        server = subprocess.Popen(["nginx", "-c", home / "nginx.conf", "-e", home / "error.log", "-g", "daemon off;"])
        self._open.callback(stop, server)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: subprocess.run(["curl", "-so", "/dev/null", url]).returncode == 0)
        self.access_log = home / "access.log"
        return url

    def requests_so_far(self):
        """The number of requests that the last nginx has served."""
        return self.access_log.read_text().count("\n")

    # Mounts

    @contextlib.contextmanager
    def mount(self, portal, *options, data=None, cache=None, env=None):
        """A fresh mount of `portal` with an empty cache, as a path."""
        home = pathlib.Path(tempfile.mkdtemp(dir=self.work, prefix="mount-"))
        point = home / "mnt"
        point.mkdir()
        cache = cache or home / "cache"
        command = [ICOSFS, "mount", "--cache-dir", cache, *where(portal, data), *map(str, options), point]
        environment = {**os.environ, "ICOSFS_TOKEN": portal["token"], "HOME": str(home), **(env or {})}
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
        try:
            yield point
        finally:
            subprocess.run([ICOSFS, "unmount", "--lazy", point], check=True)
            wait_until(lambda: not is_mounted(point))
            shutil.rmtree(home, ignore_errors=True)

    @contextlib.contextmanager
    def rclone(self, url, mode, cache=None):
        """rclone's mount of nginx' /objects/, as a path."""
        home = pathlib.Path(tempfile.mkdtemp(dir=self.work, prefix="rclone-"))
        point = home / "mnt"
        point.mkdir()
        command = ["rclone", "mount", ":http:", point, "--http-url", f"{url}/objects/", "--read-only",
                   "--vfs-cache-mode", mode, "--cache-dir", cache or home / "cache", "--config", home / "none"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: is_mounted(point))
        try:
            yield point
        finally:
            subprocess.run(["fusermount3", "-uz", point], check=True)
            stop(server)
            shutil.rmtree(home, ignore_errors=True)


def where(portal, data=None):
    """The options that select `portal`, optionally with another data service."""
    return ["--auth-url", portal["auth"], "--meta-url", portal["meta"], "--data-url", data or portal["data"]]


def daemon_of(mount):
    """The process id of a mount's daemon."""
    return json.loads((mount / ".icosfs/status.json").read_text())["pid"]


def status_of(pid, key):
    """A line of /proc/<pid>/status, in its own unit (KiB for memory)."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def cpu_seconds(pid):
    """The CPU time that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle():
    """Waits until the last contestant's writes are on the disk.

    What the kernel has read stays: the server's files are in its memory, as those
    are that many ask for, and a mount that was not there before has nothing.
    """
    subprocess.run(["sync"], check=True)


def drop_caches():
    """Drops the kernel's page cache."""
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def is_mounted(point):
    """Whether `point` has a mount; does not access the mount itself."""
    text = pathlib.Path("/proc/self/mountinfo").read_text()
    return any(line.split()[4] == str(point) for line in text.splitlines())


def wait_until(condition):
    """Waits for a condition, with a timeout."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("waited in vain")
        time.sleep(0.01)


def free_port():
    """A free TCP port."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop(process):
    """Ends a process."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cat(path):
    """Reads a file as a user would, and discards the bytes."""
    subprocess.run(["cat", path], check=True, stdout=subprocess.DEVNULL)


def curl(url, *options):
    """Downloads a URL and discards the bytes."""
    subprocess.run(["curl", "-sSf", "-o", "/dev/null", *options, url], check=True)


def timed(run, *arguments):
    """The duration of `run` in seconds."""
    started = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - started
