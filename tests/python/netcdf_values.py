"""Prints the variables of a NetCDF file or URL with checksums: `netcdf_values.py NAME`."""

import hashlib
import sys

import netCDF4

with netCDF4.Dataset(sys.argv[1]) as dataset:
    dataset.set_auto_mask(False)
    print(dataset.data_model)
    for name, variable in dataset.variables.items():
        print(name, variable.shape, hashlib.sha256(variable[...].tobytes()).hexdigest())
