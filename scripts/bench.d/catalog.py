"""A catalog of a million objects; a hundred thousand entries, compared with ext4
and rclone.

Rows of the demo portal's catalog are copied with other ids. Folder sizes are
counted, not assumed.
"""

import os
import sqlite3
import subprocess
import time

from stage import daemon_of, status_of

MILLION = 1_000_000
MANY = 100_000


def grow(cache, count, tables):
    """Fills the catalog up to `count` objects; without `tables`, all objects are
    of one kind and have two names each."""
    (path,) = cache.glob("*/catalog.sqlite")
    with sqlite3.connect(path) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(object)") if row[1] not in ("row", "id")]
        names = ", ".join(columns)
        kind = "" if tables else "AND rows IS NULL AND name LIKE '%.nc'"
        patterns = f"SELECT row_number() OVER (ORDER BY row) - 1 AS n, {names} FROM object WHERE shown = 1 AND spec IS NOT NULL {kind}"
        db.execute(f"CREATE TEMP TABLE pattern AS {patterns}")
        (kinds,) = db.execute("SELECT count(*) FROM pattern").fetchone()
        (known,) = db.execute("SELECT count(*) FROM object").fetchone()
        db.execute(
            f"""WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
            INSERT INTO object (id, {names}) SELECT randomblob(18), {names} FROM number
            JOIN pattern ON pattern.n = number.n % ?2""",
            (count - known - 1, kinds),
        )
    # Finish pending writes: a user's catalog is not freshly written either.
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def known_catalog(stage, portal, name):
    """A cache folder that contains the lists."""
    cache = stage.work / name
    with stage.mount(portal, cache=cache) as mount:
        for _ in os.scandir(mount / "objects"):
            pass
    return cache


def first_entry(folder):
    with os.scandir(folder) as entries:
        next(entries)


def seconds(*command, **rest):
    """The duration of a command whose output is discarded."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **rest)
    return time.perf_counter() - started


def lines(*command, **rest):
    return subprocess.run(command, check=True, capture_output=True, **rest).stdout.count(b"\n")


def million(stage, portal):
    cache = known_catalog(stage, portal, "million")
    grow(cache, MILLION, tables=True)
    ready, first, rates, memory = [], [], [], []
    for _ in range(stage.rounds):
        started = time.perf_counter()
        with stage.mount(portal, "--metadata-ttl", "indefinite", cache=cache) as mount:
            ready.append(time.perf_counter() - started)
            started = time.perf_counter()
            first_entry(mount / "objects")
            first.append(time.perf_counter() - started)
            took = seconds("ls", "-f", mount / "objects")
            entries = lines("ls", "-f", mount / "objects")
            rates.append(entries / took)
            memory.append(status_of(daemon_of(mount), "VmHWM") / 1024)
    stage.figure("entries", entries, "")
    stage.bar("a million objects, mount ready, ms", sorted(ready)[len(ready) // 2] * 1000, at_most=150)
    stage.bar("first entries, ms", sorted(first)[len(first) // 2] * 1000, at_most=200)
    stage.bar("ls -f, entries a second", sorted(rates)[len(rates) // 2], at_least=500_000)
    stage.bar("memory, MiB", max(memory), at_most=150)


def many(stage, portal):
    cache = known_catalog(stage, portal, "many")
    grow(cache, MANY // 2, tables=False)
    plain = stage.work / "ext4"
    plain.mkdir()
    for number in range(MANY):
        (plain / f"{number:024}.csv").touch()
    url = stage.nginx(plain)
    options = ["--metadata-ttl", "indefinite"]
    with (
        stage.mount(portal, *options, cache=cache) as ours,
        stage.mount(portal, *options, "--no-xattr", cache=cache) as bare,
        stage.rclone(url, "off") as rclone,
    ):
        folders = {"ext4": plain, "icosfs": ours / "objects", "bare": bare / "objects", "rclone": rclone}
        counts = {who: lines("ls", "-f", folder) for who, folder in folders.items()}
        for who, count in counts.items():
            stage.figure(f"{who}, entries", count, "")

        def listing(*options):
            contestants = {
                who: (lambda folder=folder: seconds("ls", *options, folder)) for who, folder in folders.items()
            }
            return stage.in_turn(**contestants)

        names = listing("-f")
        long = listing("-l")
    for who in folders:
        stage.figure(f"{who}, ls -f", names[who], "s")
        stage.figure(f"{who}, ls -l", long[who], "s")
    stage.bar("ls -f, x ext4", names["icosfs"] / names["ext4"], at_most=3)
    stage.bar("ls -f, faster than rclone", names["rclone"] / names["icosfs"], at_least=4)
    stage.bar("ls -l without xattrs, x ext4", long["bare"] / long["ext4"], at_most=2)
    stage.bar("ls -l without xattrs, faster than rclone", long["rclone"] / long["bare"], at_least=8)
    stage.bar("ls -l with xattrs, faster than rclone", long["rclone"] / long["icosfs"], at_least=1.5)


def run(stage):
    portal = stage.demo()
    million(stage, portal)
    many(stage, portal)
