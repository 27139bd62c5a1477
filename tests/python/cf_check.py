#!/usr/bin/env python3
"""Checks NetCDF files with the CF checker, without a network.

Usage: cf_check.py FILE [FILE ...]

The tables of names that the checker otherwise downloads are beside this file: of the
standard names those that icosfs writes. Ends with 1 if there is an error.
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
TABLES = [
    ("-s", HERE / "cf-standard-names.xml"),
    ("-a", HERE / "cf-area-types.xml"),
    ("-r", HERE / "cf-regions.xml"),
]

command = [str(pathlib.Path(sys.executable).parent / "cfchecks"), "-v", "1.8"]
for option, table in TABLES:
    command += [option, str(table)]
result = subprocess.run(command + sys.argv[1:], capture_output=True, text=True)
counts = [int(count) for count in re.findall(r"ERRORS detected: (\d+)", result.stdout)]
if len(counts) != len(sys.argv) - 1 or any(counts):
    print(result.stdout[-20000:], result.stderr[-4000:])
    sys.exit(1)
print(f"{len(counts)} files conform")
