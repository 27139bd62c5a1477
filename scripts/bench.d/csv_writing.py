"""Writing CSV on one core, compared with polars, DuckDB and pyarrow.

Every writer gets the same table in memory, in its own format: a timestamp and
ten float32 columns with some gaps. It writes to /dev/null or to reused memory, so
that neither disks nor the kernel's zeroing of pages are measured. Targets apply
to typical numbers; the other results are informative.
"""

import os
import subprocess

os.environ["POLARS_MAX_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import duckdb  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.csv  # noqa: E402

from stage import ROOT, timed  # noqa: E402

BINARY = ROOT / "target/dist/examples/csv_speed"
COLUMNS, ROWS = 10, 300_000
# A round takes some tens of milliseconds; more rounds give stable medians.
ROUNDS = 9
# Minimum speed relative to each writer, on typical numbers.
BARS = {"polars": 2.5, "duckdb": 3.0, "pyarrow": 3.0}


def everyday(rng):
    """Numbers with few digits, as instruments report them, e.g. 412.37."""
    levels = [412.37, 1900.1, 25.5, 0.5, 1013.25, -3.2, 75.3, 181.4, 3.21, 0.01234]
    places = [2, 2, 2, 3, 2, 2, 1, 1, 2, 5]
    for level, place in zip(levels, places):
        noise = 1 + 0.05 * rng.standard_normal(ROWS)
        yield (level * noise).round(place).astype("f4")


def unrounded(rng):
    """Numbers as computations produce them, with all digits significant."""
    for _ in range(COLUMNS):
        yield (100 * rng.standard_normal(ROWS)).astype("f4")


def any_exponent(rng):
    """All finite bit patterns."""
    for _ in range(COLUMNS):
        bits = rng.integers(0, 2**32, ROWS, dtype=np.uint64).astype("u4")
        column = bits.view("f4").copy()
        column[~np.isfinite(column)] = np.nan
        yield column


def table(kind):
    """The timestamp in milliseconds, and the columns, with NaN in gaps."""
    rng = np.random.default_rng(1)
    start = np.datetime64("2017-04-17T00:00", "ms").astype("i8")
    stamps = start + np.arange(ROWS) * 3_600_000
    columns = list(kind(rng))
    for column in columns:
        column[rng.random(ROWS) < 0.02] = np.nan
    return stamps, columns


def run(stage):
    path = stage.work / "columns"
    for kind in (everyday, unrounded, any_exponent):
        stamps, columns = table(kind)
        name = kind.__name__.replace("_", " ")
        frame = pl.DataFrame(
            {"TIMESTAMP": stamps.astype("datetime64[ms]")}
            | {f"c{i}": column for i, column in enumerate(columns)}
        ).with_columns(pl.selectors.float().fill_nan(None))
        arrow = frame.to_arrow()
        duck = duckdb.connect()
        duck.execute("set threads = 1")
        duck.execute("create table data as select * from arrow")
        path.write_bytes(stamps.astype(">f8").tobytes() + b"".join(c.astype(">f4").tobytes() for c in columns))
        size = 0

        def ours():
            nonlocal size
            formats = ["iso8601dateTime"] + ["float32"] * COLUMNS
            command = [BINARY, path, str(ROWS), "1", *formats]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, size = map(float, done.stdout.split())
            return seconds

        medians = stage.in_turn(
            ROUNDS,
            icosfs=ours,
            polars=lambda: timed(frame.write_csv, "/dev/null"),
            duckdb=lambda: timed(duck.execute, "copy data to '/dev/null' (format csv)"),
            pyarrow=lambda: timed(pa.csv.write_csv, arrow, "/dev/null"),
        )
        for who, seconds in medians.items():
            stage.figure(f"{name}, {who}", size / seconds / 1e6, "MB/s of our text")
        for who, bar in BARS.items():
            times = medians[who] / medians["icosfs"]
            if kind is everyday:
                stage.bar(f"{name}, x {who}", times, at_least=bar)
            else:
                stage.figure(f"{name}, x {who}", times, "times as fast")
