"""260 columns of 350 000 rows (364 MB), 50 ms away: head first, then the whole.

The demo portal counts round trips and bytes. What `wc`, `tail`, polars and
DuckDB find on the same path must be exact.
"""

import json
import subprocess
import time
import urllib.request

import duckdb
import polars as pl

from stage import curl

RTT, COLUMNS, ROWS = 50, 260, 350_000


def answered(portal):
    """Data requests that the demo has begun to answer, and their bytes."""
    with urllib.request.urlopen(f"{portal['control']}/requests") as answer:
        requests = [r for r in json.load(answer) if r["service"] == "data"]
    return len(requests), sum(r["bytes"] for r in requests)


def run(stage):
    portal = stage.demo("--rtt", RTT, "--table", f"{COLUMNS}x{ROWS}")
    firsts, fetched = [], []

    def head():
        with stage.mount(portal) as mount:
            # The lists are no part of reading; a user's `ls` brings them.
            path = max((mount / "objects").glob("*.csv"), key=lambda p: p.stat().st_size)
            before = answered(portal)[1]
            started = time.perf_counter()
            reader = subprocess.Popen(["head", "-n", "5", path], stdout=subprocess.PIPE)
            reader.stdout.read(1)
            firsts.append(time.perf_counter() - started)
            reader.communicate()
            took = time.perf_counter() - started
            fetched.append(answered(portal)[1] - before)
            return took

    medians = stage.in_turn(head=head)
    first = sorted(firsts)[len(firsts) // 2]
    stage.figure("head -n 5", medians["head"] * 1000, "ms")
    stage.bar("first byte of head, round trips", first * 1000 / RTT, at_most=4)
    stage.bar("head fetches, MiB", max(fetched) / 2**20, at_most=1)

    with stage.mount(portal) as mount:
        path = max((mount / "objects").glob("*.csv"), key=lambda p: p.stat().st_size)
        before = answered(portal)[0]
        subprocess.run(["head", "-n", "5", path], check=True, stdout=subprocess.DEVNULL)
        started = time.perf_counter()
        size = int(subprocess.run(["wc", "-c", path], check=True, capture_output=True).stdout.split()[0])
        stage.figure("wc -c after head", time.perf_counter() - started, "s")
        stage.bar("data requests of head and wc", answered(portal)[0] - before, at_most=5)
        started = time.perf_counter()
        last = subprocess.run(["tail", "-n", "1", path], check=True, capture_output=True).stdout
        stage.figure("tail -n 1 then", time.perf_counter() - started, "s")
        started = time.perf_counter()
        frame = pl.scan_csv(path).select(pl.len(), pl.col("V_1").sum(), pl.col(f"V_{COLUMNS - 1}").sum()).collect()
        stage.figure("polars then", time.perf_counter() - started, "s")
        started = time.perf_counter()
        columns = f'count(*), sum("V_1"), sum("V_{COLUMNS - 1}")'
        duck = duckdb.sql(f"select {columns} from read_csv('{path}')").fetchone()
        stage.figure("DuckDB then", time.perf_counter() - started, "s")
        exact = stage.work / "exact.csv"
        curl(f"{portal['data']}/csv/{path.stem}", "--cookie", portal["token"], "-o", exact)
        whole = pl.scan_csv(exact).select(pl.col("V_1").sum(), pl.col(f"V_{COLUMNS - 1}").sum()).collect()
        with exact.open("rb") as file:
            file.seek(-len(last), 2)
            agrees = {
                "wc": size == exact.stat().st_size,
                "tail": file.read() == last and last.count(b"\n") == 1,
                "polars": frame.row(0) == (ROWS, *whole.row(0)),
                "duckdb": duck[0] == ROWS and all(
                    abs(one - other) <= 1e-9 * abs(other) for one, other in zip(duck[1:], whole.row(0))
                ),
                "cmp": subprocess.run(["cmp", path, exact]).returncode == 0,
            }
    for who, right in agrees.items():
        stage.bar(f"{who} is exact", int(right), at_least=1)
