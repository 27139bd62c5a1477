#!/usr/bin/env python3
"""Reads one variable of a NetCDF file by xarray.

Usage: netcdf_in_xarray.py ENGINE TABLE.nc VARIABLE

Prints the number of values, their mean, and the first and the last time.
"""

import sys

import xarray as xr

engine, path, variable = sys.argv[1:]
with xr.open_dataset(path, engine=engine) as dataset:
    values = dataset[variable]
    (dimension,) = values.dims
    times = dataset[dimension].values
    count, mean = int(values.count()), float(values.mean())
    print(count, repr(mean), times[0], times[-1])
