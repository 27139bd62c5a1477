#!/usr/bin/env python3
"""Checks that a Parquet file has the columns, values and types of a CSV.

Usage: parquet_equals_csv.py TABLE.csv TABLE.parquet

Reads the Parquet with pyarrow, polars, DuckDB and pandas, each of which must
find, cell by cell, what the CSV's text means by the column's value format (told
by the Parquet's own field metadata). Ends with 1 at the first reader that does
not.
"""

import datetime as dt
import math
import struct
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq


def single(text):
    """The float32 that a text means."""
    return struct.unpack("f", struct.pack("f", float(text)))[0]


def stamp(text):
    return dt.datetime.fromisoformat(text)


MEANINGS = {
    "int32": int,
    "float32": single,
    "float64": float,
    "boolean": lambda text: text == "1",
    "bmpChar": str,
    "iso8601date": dt.date.fromisoformat,
    "etcDate": dt.date.fromisoformat,
    "iso8601month": lambda text: dt.date.fromisoformat(text + "-01"),
    "iso8601timeOfDay": dt.time.fromisoformat,
    "iso8601dateTime": stamp,
    "isoLikeLocalDateTime": lambda text: stamp(text).replace(tzinfo=None),
    "etcLocalDateTime": lambda text: stamp(text).replace(tzinfo=None),
}


# What each reader calls the type of a value format.
TYPES = {
    "int32": ("int32", "Int32", "INTEGER", "int32"),
    "float32": ("float", "Float32", "FLOAT", "float32"),
    "float64": ("double", "Float64", "DOUBLE", "float64"),
    "boolean": ("bool", "Boolean", "BOOLEAN", "bool"),
    "bmpChar": ("dictionary<values=string, indices=int32, ordered=0>", "Categorical", "VARCHAR", "category"),
    "iso8601date": ("date32[day]", "Date", "DATE", "object"),
    "etcDate": ("date32[day]", "Date", "DATE", "object"),
    "iso8601month": ("date32[day]", "Date", "DATE", "object"),
    "iso8601timeOfDay": ("time32[ms]", "Time", "TIME", "object"),
    "iso8601dateTime": (
        "timestamp[ms, tz=UTC]",
        "Datetime(time_unit='ms', time_zone='UTC')",
        "TIMESTAMP WITH TIME ZONE",
        "datetime64[ms, UTC]",
    ),
    "isoLikeLocalDateTime": (
        "timestamp[ms]",
        "Datetime(time_unit='ms', time_zone=None)",
        "TIMESTAMP",
        "datetime64[ms]",
    ),
    "etcLocalDateTime": (
        "timestamp[ms]",
        "Datetime(time_unit='ms', time_zone=None)",
        "TIMESTAMP",
        "datetime64[ms]",
    ),
}
# With nulls, pandas has no ints or booleans.
WIDENED = {"int32": "float64", "bool": "object"}


def types_with(path):
    """The types of all columns, as each of the readers says them."""
    described = duckdb.connect().execute("describe select * from read_parquet(?)", [path]).fetchall()
    frame = pd.read_parquet(path)
    return (
        {field.name: str(field.type) for field in pq.read_schema(path)},
        {name: str(kind) for name, kind in pl.read_parquet(path).schema.items()},
        {row[0]: row[1] for row in described},
        {name: str(kind) for name, kind in frame.dtypes.items()},
    )


def check_types(path, header, formats):
    for reader, found in enumerate(types_with(path)):
        for name, value_format in zip(header, formats):
            expected = TYPES[value_format][reader]
            if found[name] not in (expected, WIDENED.get(expected)):
                sys.exit(f"{name}: expected the type {expected}, reader {reader} found {found[name]}")


def with_pyarrow(path):
    table = pq.read_table(path)
    return {name: table[name].to_pylist() for name in table.column_names}


def with_polars(path):
    return pl.read_parquet(path).to_dict(as_series=False)


def with_duckdb(path):
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    found = connection.execute("select * from read_parquet(?)", [path])
    names = [column[0] for column in found.description]
    rows = found.fetchall()
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def with_pandas(path):
    frame = pd.read_parquet(path)
    return {
        name: [None if pd.isna(value) else value for value in frame[name]]
        for name in frame.columns
    }


def plain(value):
    """A reader's value as Python has it."""
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime()
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.timezone.utc)
    return value


def cells(line, formats):
    """A line's cells. Nothing is quoted: a character may be a comma itself."""
    found = line.split(",")
    for at, value_format in enumerate(formats):
        if len(found) > len(formats) and value_format == "bmpChar":
            if found[at : at + 2] == ["", ""]:
                found[at : at + 2] = [","]
    return found


def same(value, meant):
    """Equal, and of two zeros the same."""
    if isinstance(meant, float) and value is not None:
        return value == meant and math.copysign(1, value) == math.copysign(1, meant)
    return value == meant


def main():
    csv_path, parquet_path = sys.argv[1:]
    with open(csv_path, newline="\n", encoding="utf-8") as file:
        header, *lines = (line.removesuffix("\n") for line in file)
    header = header.split(",")
    schema = pq.read_schema(parquet_path)
    formats = [schema.field(name).metadata[b"value_format"].decode() for name in header]
    rows = [cells(line, formats) for line in lines]
    check_types(parquet_path, header, formats)

    for read in (with_pyarrow, with_polars, with_duckdb, with_pandas):
        columns = read(parquet_path)
        if list(columns) != header:
            sys.exit(f"{read.__name__}: expected columns {header}, found {list(columns)}")
        for at, (name, values) in enumerate(columns.items()):
            if len(values) != len(rows):
                sys.exit(f"{read.__name__}: expected {len(rows)} rows, found {len(values)}")
            for number, (row, value) in enumerate(zip(rows, values)):
                meant = MEANINGS[formats[at]](row[at]) if row[at] else None
                if not same(plain(value), meant):
                    sys.exit(
                        f"{read.__name__}: {name}, row {number}: "
                        f"expected {meant!r}, found {value!r}"
                    )
    print(f"{len(rows)} rows of {len(header)} columns are the same to all readers")


if __name__ == "__main__":
    main()
