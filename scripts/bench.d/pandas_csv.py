"""pandas.read_csv of a mounted table, cold, 20 ms away, beside icoscp_core.

The demo stands for a server that writes CSV at no more than 20 MB/s (a
bandwidth fault on the route /csv); its columns come as fast as they can. Each
reader is a new process that measures only its reading.
"""

import json
import os
import subprocess
import sys

from stage import ROOT

RTT, SHAPE, SIZE = 20, "11x200000", 11 * 200_000

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
_, stream = data.get_csv_byte_stream(dobj)
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
    portal = stage.demo("--rtt", RTT, "--table", SHAPE, "--faults", faults)
    with stage.mount(portal) as mount:
        # The largest table there.
        path = max((mount / "objects").glob("*.csv"), key=lambda path: path.stat().st_size)
        name = path.stem
    rows = int(SHAPE.split("x")[1])

    def python(script, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/python"),
                       "ICOS_AUTH": portal["auth"], "ICOS_META": portal["meta"], "ICOS_DATA": portal["data"]}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
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
    )
    for who, seconds in medians.items():
        stage.figure(who, seconds, "s")
    stage.bar("pandas.read_csv, x icoscp_core's CSV", medians["icosfs"] / medians["core_csv"], at_most=0.5)
    stage.bar("pandas.read_csv, x icoscp_core's columns", medians["icosfs"] / medians["core_columns"], at_most=1.2)
