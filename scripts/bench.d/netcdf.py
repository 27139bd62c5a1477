"""xarray opens a 200 MB netCDF-4 file and reads one variable's time slice.

At 50 ms; nginx serves the same file to icosfs and rclone. Each mount is fresh.
Each reader is a new process, since h5py caches much, and measures only its
reads, not the time that Python takes to load xarray.
"""

import subprocess
import sys

from stage import settle

RTT = 50

READER = """
import sys, time
import h5netcdf, xarray
started = time.perf_counter()
with xarray.open_dataset(sys.argv[1], engine="h5netcdf") as data:
    mean = float(data["flux3"].isel(time=slice(100, 110)).mean())
print(time.perf_counter() - started, mean)
"""


def make(path):
    """Eight variables of 120 x 200 x 260 floats, in chunks of a day each."""
    import numpy
    import xarray

    values = numpy.random.default_rng(2026)
    shape = ("time", "lat", "lon")
    variables = {
        f"flux{n}": (shape, values.standard_normal((120, 200, 260), dtype="f4")) for n in range(8)
    }
    data = xarray.Dataset(variables, coords={"time": numpy.arange(120)})
    encoding = {name: {"chunksizes": (1, 200, 260)} for name in variables}
    data.to_netcdf(path, engine="h5netcdf", encoding=encoding)


def run(stage):
    folder = stage.work / "objects"
    folder.mkdir()
    source = stage.work / "fluxes.nc"
    make(source)
    size = source.stat().st_size
    portal = stage.demo("--original", source)
    with stage.mount(portal) as mount:
        name = next(p.stem for p in (mount / "objects").glob("*.nc") if p.stat().st_size == size)
    source.rename(folder / name)
    url = stage.nginx(folder, RTT)
    counts, means = [], set()

    def read(path):
        command = [sys.executable, "-c", READER, path]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, mean = map(float, printed.split())
        means.add(mean)
        return seconds

    def icosfs():
        with stage.mount(portal, data=url) as mount:
            path = mount / f"objects/{name}.nc"
            path.stat()
            before = stage.requests_so_far()
            seconds = read(path)
            counts.append(stage.requests_so_far() - before)
        settle()
        return seconds

    def rclone(mode):
        def run():
            with stage.rclone(url, mode) as mount:
                seconds = read(mount / name)
            settle()
            return seconds

        return run

    medians = stage.in_turn(rehearse=True, icosfs=icosfs, rclone_off=rclone("off"), rclone_full=rclone("full"),
                            local=lambda: read(folder / name))
    for who, seconds in medians.items():
        stage.figure(who, seconds, "s")
    best = min(medians["rclone_off"], medians["rclone_full"])
    stage.figure("data requests of icosfs", max(counts), "")
    stage.bar("one slice by xarray, x rclone's time", medians["icosfs"] / best, at_most=0.5)
    stage.bar("different answers", len(means) - 1, at_most=0)
