#!/usr/bin/env python3
"""Checks that NetCDF files have the columns and values of CSV files.

Usage: netcdf_equals_csv.py [--rows N] TABLE.csv TABLE.nc [TABLE.csv TABLE.nc ...]

Compares every cell: values, missing values and times, as netCDF4 reads the one and
pandas the other. With --rows, only the first rows. Ends with 1 at the first column that
differs.
"""

import sys

import netCDF4
import numpy as np
import pandas as pd


def expected(texts, variable):
    """The values of the file that the texts of a CSV column mean."""
    units = getattr(variable, "units", "")
    empty = texts == ""
    # Any number, so that all texts are numbers.
    filled = texts.mask(empty, "0")

    def times(unit):
        filled = texts.mask(empty, "1970-01-01").str.removesuffix("Z")
        return filled.to_numpy(dtype=object).astype(f"datetime64[{unit}]").astype("int64")

    if units.startswith("milliseconds since"):
        values = times("ms").astype("float64")
    elif units.startswith("days since"):
        values = times("D")
    elif getattr(variable, "comment", "").startswith("time of day"):
        parts = texts.mask(empty, "0:0:0").str.split(":", expand=True).fillna("0").astype("int64")
        values = parts[0] * 3600 + parts[1] * 60 + (parts[2] if 2 in parts else 0)
    elif variable.dtype == np.dtype("S1"):
        return np.array([text.encode("latin-1", "replace") for text in texts], dtype="S1")
    elif variable.dtype.kind == "f":
        values = filled.astype("float64").astype(variable.dtype)
    else:
        values = filled.astype("int64")
    values = np.array(values)
    if variable.dtype.kind == "f":
        values[empty.to_numpy()] = np.nan
    else:
        values[empty.to_numpy()] = variable._FillValue
    return values


def compare(csv, nc, rows):
    table = pd.read_csv(csv, dtype=str, keep_default_na=False, nrows=rows)
    with netCDF4.Dataset(nc) as file:
        file.set_auto_maskandscale(False)
        columns = {
            getattr(variable, "column_name", name): variable
            for name, variable in file.variables.items()
            if variable.dimensions and not name.startswith("station_")
        }
        # pandas numbers repeated names.
        labels = [label for label in table.columns if label not in columns and label[-2:] != ".1"]
        assert not labels and len(columns) <= len(table.columns), (nc, labels, list(columns))
        for label, variable in columns.items():
            found = variable[: len(table)]
            wanted = expected(table[label], variable)
            if variable.dtype.kind == "f" and str(getattr(variable, "units", "")).startswith("milli"):
                found = np.floor(found)
            same = found == wanted
            if variable.dtype.kind == "f":
                same |= np.isnan(found) & np.isnan(wanted)
            assert len(found) == len(table) and same.all(), (
                f"{nc}, {label}: row {np.argmin(same)} is {found[np.argmin(same)]!r}, "
                f"expected {wanted[np.argmin(same)]!r}"
            )
        if rows is None:
            dimension = next(iter(file.dimensions.values()))
            assert dimension.size == len(table), (nc, dimension.size, len(table))


def main():
    arguments = sys.argv[1:]
    rows = None
    if arguments[0] == "--rows":
        rows, arguments = int(arguments[1]), arguments[2:]
    for csv, nc in zip(arguments[::2], arguments[1::2]):
        compare(csv, nc, rows)
    print(f"{len(arguments) // 2} tables are equal")


main()
