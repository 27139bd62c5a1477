#!/usr/bin/env python3
"""Checks that the older library, `icoscp`, reads a table by the shared login.

Usage: icoscp_equals_csv.py ID TABLE.csv

TABLE.csv is what the data service itself says of the object ID. Every cell must
be what `icoscp.dobj.Dobj` makes of the binary columns: to the last bit, save
that this library leaves bad data out. Prints the user that `icoscp.cpauth` is
logged in as, and the number of cells.
"""

import csv
import sys

import elsewhere  # Before the libraries.
import numpy as np
from icoscp import cpauth
from icoscp.dobj import Dobj

MEANINGS = {
    "iso8601dateTime": lambda text: np.datetime64(text.removesuffix("Z"), "ms"),
    "float32": lambda text: np.float32(text or "nan"),
    "int32": lambda text: int(text or -(2**31)),
    "bmpChar": str,
}


def same(found, meant):
    """Whether two values are one, NaN being itself."""
    return found == meant or (found != found and meant != meant)


dobj = Dobj("https://meta.icos-cp.eu/objects/" + sys.argv[1])
with open(sys.argv[2], newline="") as file:
    rows = list(csv.DictReader(file))
frame = dobj.data
assert list(frame.columns) == sorted(rows[0]), list(frame.columns)
assert len(frame) == len(rows)
assert dobj.colNames == list(rows[0])

good = set(dobj.meta["specification"]["format"]["goodFlagValues"])
flags = {
    flagged.label: column.label
    for column in dobj.metadata.specificInfo.columns
    for flagged in dobj.metadata.specificInfo.columns
    if flagged.model.uri in (column.isFlagFor or [])
}
left_out = 0
for column in dobj.metadata.specificInfo.columns:
    name = column.label
    meaning = MEANINGS[column.valueFormat.rsplit("/")[-1]]
    for row, found in zip(rows, frame[name].array):
        meant = meaning(row[name])
        if name in flags and row[flags[name]] not in good:
            meant, left_out = np.nan, left_out + 1
        assert same(found, meant), (name, row, found, meant)
assert 0 < left_out < len(rows), "some data were bad"
print(cpauth.get_token().user_id, frame.size)
