"""Libraries that read by `icos://`: the same values as from the mount."""

import os
import pathlib

import fsspec
import numpy
import pandas
import pyarrow.dataset
import pyarrow.parquet
import pytest

import icosfs

MOUNT = pathlib.Path(os.environ["ICOSFS_TEST_MOUNT"])
TABLE = os.environ["ICOSFS_TEST_TABLE"]
NETCDF = os.environ["ICOSFS_TEST_NETCDF"]


def test_pandas_reads_the_same_csv_and_parquet() -> None:
    for ending, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        path = f"objects/{TABLE}.{ending}"
        pandas.testing.assert_frame_equal(read(f"icos://{path}"), read(MOUNT / path))


def test_polars_reads_the_same() -> None:
    polars = pytest.importorskip("polars")
    for ending, read in (("csv", polars.read_csv), ("parquet", polars.read_parquet)):
        path = f"objects/{TABLE}.{ending}"
        with fsspec.open(f"icos://{path}") as file:
            assert read(file).equals(read(MOUNT / path))


def test_pyarrow_reads_the_same(fs: icosfs.IcosFileSystem) -> None:
    path = f"objects/{TABLE}.parquet"
    columns = ["co2"]
    mounted = pyarrow.parquet.read_table(MOUNT / path, columns=columns)
    assert pyarrow.parquet.read_table(path, filesystem=fs, columns=columns) == mounted
    dataset = pyarrow.dataset.dataset(path, filesystem=fs, format="parquet")
    assert dataset.to_table(columns=columns) == mounted


def test_dask_reads_the_same() -> None:
    import dask.dataframe

    paths = [f"stations/HTM/{folder}/*.parquet" for folder in ("atcCo2L2DataObject",)]
    for pattern in paths:
        mounted = pandas.concat(
            [pandas.read_parquet(path) for path in sorted(MOUNT.glob(pattern))]
        )
        lazy = dask.dataframe.read_parquet(f"icos://{pattern}")
        found = lazy.compute(scheduler="threads")
        pandas.testing.assert_frame_equal(
            found.reset_index(drop=True), mounted.reset_index(drop=True), check_dtype=False
        )
    lazy = dask.dataframe.read_csv(f"icos://objects/{TABLE}.csv", blocksize=100_000)
    assert lazy.npartitions > 1
    assert len(lazy) == len(pandas.read_csv(MOUNT / f"objects/{TABLE}.csv"))


def test_xarray_reads_the_same() -> None:
    import xarray

    path = f"objects/{NETCDF}.nc"
    with fsspec.open(f"icos://{path}") as file, xarray.open_dataset(file) as found:
        with xarray.open_dataset(MOUNT / path) as mounted:
            xarray.testing.assert_identical(found.load(), mounted.load())


def test_read_gives_a_frame_with_time_and_units() -> None:
    frame = icosfs.read("HTM", "co2", good=True)
    whole = pandas.read_parquet(MOUNT / f"objects/{TABLE}.parquet")
    assert isinstance(frame.index, pandas.DatetimeIndex)
    assert list(frame.columns) == ["co2"]
    assert frame.attrs["units"] == {"co2": "\u00b5mol mol-1"}
    assert frame.attrs["id"] == TABLE and frame.attrs["citation"]
    good = whole["Flag"].isin(["U", "R", "O"])
    expected = whole["co2"].where(good)
    numpy.testing.assert_array_equal(frame["co2"].to_numpy(), expected.to_numpy())
    assert frame["co2"].isna().sum() > whole["co2"].isna().sum(), "it drops bad values"
    everything = icosfs.read(TABLE)
    assert set(everything.columns) | {everything.index.name} == set(whole.columns)


def test_read_says_what_to_add() -> None:
    with pytest.raises(icosfs.IcosfsError, match="select one by datatype= or height="):
        icosfs.read("HTM")
    with pytest.raises(icosfs.IcosfsError, match="nothing"):
        icosfs.read("HTM", "nothing")
    with pytest.raises(icosfs.IcosfsError, match="has no column nothing; it has "):
        icosfs.read(TABLE, "nothing")


def test_open_dataset_is_that_of_the_netcdf_file() -> None:
    import xarray

    for good, ending in ((False, ".nc"), (True, ".good.nc")):
        with xarray.open_dataset(MOUNT / f"objects/{TABLE}{ending}") as mounted:
            whole = mounted.load()
        xarray.testing.assert_identical(icosfs.open_dataset(TABLE, good=good), whole)
        found = icosfs.open_dataset("HTM", "CO2", good=good)
        xarray.testing.assert_identical(found, whole[["co2"]])
    assert found["co2"].attrs["units"] == "umol mol-1"
    assert list(found.dims) == ["TIMESTAMP"] and found.attrs["citation"]
