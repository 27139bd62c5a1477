"""Runs the given parts, or all, and compares results with targets: see
scripts/bench."""

import argparse
import datetime
import importlib
import json
import os
import pathlib
import platform
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from stage import Stage  # noqa: E402

OURS = {"run", "stage"}


def machine():
    """A description of the machine."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{os.cpu_count()} x {model}, {memory} GiB, Linux {platform.release()}"


def main():
    parts = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in OURS)
    parser = argparse.ArgumentParser(prog="scripts/bench", description="icosfs beside its peers")
    parser.add_argument("part", nargs="*", help=f"of {', '.join(parts)}")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each contestant")
    parser.add_argument("--json", type=pathlib.Path, help="save the results in this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.part) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    print(machine(), flush=True)
    results = []
    for name in arguments.part or parts:
        part = importlib.import_module(name)
        print(f"{name}: {part.__doc__.strip().splitlines()[0]}", flush=True)
        stage = Stage(name, arguments.rounds)
        try:
            part.run(stage)
        finally:
            stage.close()
        results.append({"part": name, "figures": stage.figures, "bars": stage.bars})
    if arguments.json:
        when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        arguments.json.write_text(json.dumps({"machine": machine(), "when": when, "parts": results}, indent=1))
    missed = [bar for result in results for bar in result["bars"] if not bar["held"]]
    print(f"{len(missed)} bars missed" if missed else "all bars held")
    sys.exit(1 if missed else 0)


main()
