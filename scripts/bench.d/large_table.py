"""260 columns of 350 000 rows (364 MB) at 50 ms: the head, then the complete table.

The demo portal counts round trips and bytes. The results of `wc`, `tail`, polars
and DuckDB on the same path must be exact.
"""

import json
import subprocess
import time
import urllib.request

import duckdb
import polars as pl

RTT, COLUMNS, ROWS = 50, 260, 350_000


def answered(portal):
    """Data requests whose response the demo has begun, and their bytes."""
    with urllib.request.urlopen(f"{portal['control']}/requests") as answer:
        requests = [r for r in json.load(answer) if r["service"] == "data"]
    return len(requests), sum(r["bytes"] for r in requests)


def polars_finds(path):
    """Counts, minima and maxima, which do not depend on the order of rows."""
    facts = [pl.len()]
    for name in ("V_1", f"V_{COLUMNS - 1}"):
        column = pl.col(name)
        facts += [f.alias(f"{name} {n}") for n, f in enumerate([column.count(), column.min(), column.max()])]
    return pl.scan_csv(path).select(facts).collect().row(0)


def duckdb_finds(path):
    """The same in DuckDB."""
    facts = [f'count("{name}"), min("{name}"), max("{name}")' for name in ("V_1", f"V_{COLUMNS - 1}")]
    return duckdb.sql(f"select count(*), {', '.join(facts)} from read_csv('{path}')").fetchall()[0]


def run(stage):
    portal = stage.demo("--rtt", RTT, "--table", f"{COLUMNS}x{ROWS}")
    firsts, fetched = [], []

    def head():
        with stage.mount(portal) as mount:
            # Loading the lists is not measured; a user's `ls` loads them.
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
        polars = polars_finds(path)
        stage.figure("polars then", time.perf_counter() - started, "s")
        started = time.perf_counter()
        duck = duckdb_finds(path)
        stage.figure("DuckDB then", time.perf_counter() - started, "s")
        exact = stage.work / "exact.csv"
        whole = f"{portal['data']}/csv/{path.stem}"
        subprocess.run(["curl", "-sSf", "--cookie", portal["token"], "-o", exact, whole], check=True)
        with exact.open("rb") as file:
            file.seek(-len(last), 2)
            agrees = {
                "wc": size == exact.stat().st_size,
                "tail": file.read() == last and last.count(b"\n") == 1,
                "polars": polars == polars_finds(exact) and polars[0] == ROWS,
                "duckdb": duck == duckdb_finds(exact) and duck[0] == ROWS,
                "cmp": subprocess.run(["cmp", path, exact]).returncode == 0,
            }
    for who, right in agrees.items():
        stage.bar(f"{who} is exact", int(right), at_least=1)
