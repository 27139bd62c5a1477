"""pandas.read_csv of a mounted table, cold, at 20 ms, compared with icoscp_core.

The demo simulates a server that writes CSV at no more than 20 MB/s (a bandwidth
fault on the route /csv) and sends columns without a limit. Each reader is a new
process that measures only its reads. A table has a year of hourly or half-hourly
rows, or many years. The time that pandas takes to parse a local copy of the same
text is shown as well, as the lower bound for any filesystem.
"""

import json
import os
import shutil
import subprocess
import sys

from stage import ROOT

RTT, COLUMNS, YEAR = 20, 11, 8_784
SHAPES = YEAR, 2 * YEAR, 200_000

MOUNTED = """
import json, sys, time
import pandas
started = time.perf_counter()
frame = pandas.read_csv(sys.argv[1])
print(json.dumps([time.perf_counter() - started, len(frame)]))
"""

CORE = """
import json, sys, time
import elsewhere, pandas
from icoscp_core.icos import bootstrap
meta, data = bootstrap.fromCookieToken(sys.argv[1])
dobj = "https://meta.icos-cp.eu/objects/" + sys.argv[2]
started = time.perf_counter()
"""

CORE_CSV = CORE + """
stream = data.get_csv_byte_stream(dobj)
frame = pandas.read_csv(stream)
print(json.dumps([time.perf_counter() - started, len(frame)]))
"""

CORE_COLUMNS = CORE + """
frame = pandas.DataFrame(data.get_columns_as_arrays(meta.get_dobj_meta(dobj)))
print(json.dumps([time.perf_counter() - started, len(frame)]))
"""


def run(stage):
    faults = stage.work / "faults.json"
    slow_csv = {"service": "data", "route": "csv", "fault": {"bandwidth": {"bytesPerSecond": 20_000_000}}}
    faults.write_text(json.dumps({"seed": 1, "rules": [slow_csv]}))
    shapes = [option for rows in SHAPES for option in ("--table", f"{COLUMNS}x{rows}")]
    portal = stage.demo("--rtt", RTT, *shapes, "--faults", faults)
    for rows in SHAPES:
        measure(stage, portal, rows)


def measure(stage, portal, rows):
    with stage.mount(portal) as mount:
        path = next(path for path in (mount / "objects").glob("*.csv") if lines(path) == rows + 1)
        name, copy = path.stem, stage.work / f"{rows}.csv"
        shutil.copy(path, copy)

    def python(script, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/python"),
                       "ICOS_AUTH": portal["auth"], "ICOS_META": portal["meta"], "ICOS_DATA": portal["data"]}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        seconds, found = json.loads(output)
        if found != rows:
            raise ValueError(f"{found} rows")
        return seconds

    def icosfs():
        with stage.mount(portal) as mount:
            list((mount / "objects").iterdir())
            return python(MOUNTED, mount / f"objects/{name}.csv")

    medians = stage.in_turn(
        icosfs=icosfs,
        core_csv=lambda: python(CORE_CSV, portal["token"], name),
        core_columns=lambda: python(CORE_COLUMNS, portal["token"], name),
        local=lambda: python(MOUNTED, copy),
    )
    for who, seconds in medians.items():
        stage.figure(f"{rows} rows, {who}", seconds, "s")
    for other, bar in ("core_csv", 0.5), ("core_columns", 1.2):
        stage.bar(f"{rows} rows, x {other}", medians["icosfs"] / medians[other], at_most=bar)


def lines(path):
    """How many there are in a file of the size of ours; none in a smaller one."""
    if path.stat().st_size < YEAR * COLUMNS:
        return 0
    return path.read_bytes().count(b"\n")
