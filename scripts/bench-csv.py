#!/usr/bin/env python3
"""Compares the CSV writer with polars, DuckDB and pyarrow, each on one core.

Usage: bench-csv.py PATH/TO/examples/csv_speed [ROWS]

Needs numpy, polars, duckdb and pyarrow. Every writer gets the same table in
its own memory form, a time stamp and ten float32 columns with some gaps, and
writes it to nowhere (/dev/null, or memory used again), so that neither disks
nor the kernel's zeroing of pages are measured. Rounds alternate between the
writers; the best of each counts. Ends with 1 if a bar of the project is missed.
"""

import os
import subprocess
import sys
import tempfile
import time

os.environ["POLARS_MAX_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import duckdb  # noqa: E402
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.csv  # noqa: E402

COLUMNS = 10
ROUNDS = 7
# How many times as fast as each writer, on everyday numbers.
BARS = {"polars": 2.5, "duckdb": 3.0, "pyarrow": 3.0}


def everyday(rows, rng):
    """Numbers as instruments report them, e.g. 412.37."""
    levels = [412.37, 1900.1, 25.5, 0.5, 1013.25, -3.2, 75.3, 181.4, 3.21, 0.01234]
    places = [2, 2, 2, 3, 2, 2, 1, 1, 2, 5]
    for level, place in zip(levels, places):
        noise = 1 + 0.05 * rng.standard_normal(rows)
        yield (level * noise).round(place).astype("f4")


def unrounded(rows, rng):
    """Numbers as computations leave them: all digits matter."""
    for _ in range(COLUMNS):
        yield (100 * rng.standard_normal(rows)).astype("f4")


def any_exponent(rows, rng):
    """All finite bit patterns."""
    for _ in range(COLUMNS):
        bits = rng.integers(0, 2**32, rows, dtype=np.uint64).astype("u4")
        column = bits.view("f4").copy()
        column[~np.isfinite(column)] = np.nan
        yield column


def table(kind, rows):
    """The time stamp in milliseconds, and the columns, with gaps of NaN."""
    rng = np.random.default_rng(1)
    start = np.datetime64("2017-04-17T00:00", "ms").astype("i8")
    stamps = start + np.arange(rows) * 3_600_000
    columns = list(kind(rows, rng))
    for column in columns:
        column[rng.random(rows) < 0.02] = np.nan
    return stamps, columns


def our_seconds(binary, path, rows):
    formats = ["iso8601dateTime"] + ["float32"] * COLUMNS
    done = subprocess.run(
        [binary, path, str(rows), "3", *formats], check=True, capture_output=True, text=True
    )
    seconds, size = done.stdout.split()
    return float(seconds), int(size)


def seconds(write):
    start = time.perf_counter()
    write()
    return time.perf_counter() - start


def main():
    binary = sys.argv[1]
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 300_000
    missed = False
    for kind in (everyday, unrounded, any_exponent):
        stamps, columns = table(kind, rows)
        frame = pl.DataFrame(
            {"TIMESTAMP": stamps.astype("datetime64[ms]")}
            | {f"c{i}": column for i, column in enumerate(columns)}
        ).with_columns(pl.selectors.float().fill_nan(None))
        arrow = frame.to_arrow()
        duck = duckdb.connect()
        duck.execute("set threads = 1")
        duck.execute("create table data as select * from arrow")

        with tempfile.NamedTemporaryFile() as file:
            file.write(stamps.astype(">f8").tobytes())
            for column in columns:
                file.write(column.astype(">f4").tobytes())
            file.flush()
            writers = {
                "polars": lambda: frame.write_csv("/dev/null"),
                "duckdb": lambda: duck.execute("copy data to '/dev/null' (format csv)"),
                "pyarrow": lambda: pa.csv.write_csv(arrow, "/dev/null"),
            }
            best = dict.fromkeys(["icosfs", *writers], float("inf"))
            for _ in range(ROUNDS):
                ours, size = our_seconds(binary, file.name, rows)
                best["icosfs"] = min(best["icosfs"], ours)
                for name, write in writers.items():
                    best[name] = min(best[name], seconds(write))

        print(f"{kind.__name__}: {rows} rows, our CSV has {size / 1e6:.1f} MB")
        for name, taken in best.items():
            times = taken / best["icosfs"]
            line = f"  {name:8} {taken * 1e3:7.1f} ms {size / taken / 1e6:6.0f} MB/s of it"
            if name in BARS:
                line += f"  we are {times:.2f} x as fast"
                if kind is everyday and times < BARS[name]:
                    missed = True
                    line += f", the bar is {BARS[name]}"
            print(line)
    sys.exit(missed)


if __name__ == "__main__":
    main()
