"""Four Dask workers, each with a mount and a local cache of its own, that share a cache.

Arguments: the program, a folder, the number of tables, and the options of the mounts. The
workers compute the mean of a column of each table with pandas, and open each table with
xarray. Prints the sums of the results of all workers, which are equal if all files are.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import dask
import pandas
import xarray
from distributed import Client, LocalCluster, WorkerPlugin, get_worker

WORKERS = 4


class Mount(WorkerPlugin):
    """A mount for the time of a worker."""

    def __init__(self, program: str, folder: str, options: list[str]) -> None:
        self.program, self.folder, self.options = program, folder, options

    def setup(self, worker) -> None:
        home = pathlib.Path(tempfile.mkdtemp(dir=self.folder, prefix="worker-"))
        worker.icos = home / "icos"
        worker.icos.mkdir()
        command = [self.program, "mount", "--cache-dir", home / "cache", *self.options, worker.icos]
        environment = {**os.environ, "HOME": str(home)}
        subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)

    def teardown(self, worker) -> None:
        subprocess.run([self.program, "unmount", "--lazy", worker.icos], check=True)


@dask.delayed(pure=False)
def analyse(worker: int, name: str) -> tuple[str, str, int]:
    """Each worker reads each table."""
    path = get_worker().icos / "objects" / name
    frame = pandas.read_csv(path)
    with xarray.open_dataset(path.with_suffix(".nc")) as dataset:
        rows = len(dataset[next(iter(dataset.sizes))])
    # As text, since JSON has no infinity.
    return name, repr(frame.iloc[:, 1].mean()), rows


def main(program: str, folder: str, names: str, *options: str) -> None:
    names = json.loads(names)
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Mount(program, folder, list(options)))
        addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
        assert len(addresses) == WORKERS, addresses
        results = []
        for worker, address in enumerate(addresses):
            tasks = [analyse(worker, name) for name in names]
            results.append(client.compute(tasks, workers=[address]))
        by_worker = [client.gather(futures) for futures in results]
        assert all(found == by_worker[0] for found in by_worker), by_worker
        print(json.dumps(by_worker[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
