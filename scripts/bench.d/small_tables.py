"""200 small tables at 20 ms: one shell loop of cat, then 16 at once.

The demo portal counts the requests.
"""

import json
import subprocess
import time
import urllib.request

RTT, COUNT = 20, 200


def requests(portal):
    """The requests that the demo has recorded, except SPARQL and login."""
    with urllib.request.urlopen(f"{portal['control']}/requests") as answer:
        return json.load(answer)


def run(stage):
    shapes = [option for n in range(COUNT) for option in ("--table", f"4x{300 + n}")]
    portal = stage.demo("--rtt", RTT, *shapes)
    counts = []

    def loop(script):
        def run():
            with stage.mount(portal) as mount:
                # `ls` loads the lists, which is not measured.
                names = sorted(p.name for p in (mount / "objects").iterdir() if p.name.endswith(".csv"))[:COUNT]
                before = len(requests(portal))
                started = time.perf_counter()
                subprocess.run(["bash", "-c", script], cwd=mount / "objects", input="\n".join(names) + "\n",
                               text=True, check=True, stdout=subprocess.DEVNULL)
                seconds = time.perf_counter() - started
                counts.append((len(requests(portal)) - before) / len(names))
                return seconds

        return run

    medians = stage.in_turn(
        loop=loop("while read -r name; do cat ./$name; done"),
        at_once=loop("xargs -P 16 -n 1 cat --"),
    )
    for who, seconds in medians.items():
        stage.figure(who, seconds / COUNT * 1000, "ms a file")
    stage.bar("a small table in a loop, round trips", medians["loop"] / COUNT * 1000 / RTT, at_most=2.2)
    stage.bar("a small table, requests", max(counts), at_most=3)
    stage.bar("16 at once, x the loop", medians["loop"] / medians["at_once"], at_least=10)
