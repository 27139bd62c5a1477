"""The data of the ICOS Carbon Portal, SITES and ICOS Cities as plain files.

The package contains the program ``icosfs`` (see ``icosfs --help``) and what uses it
from Python:

``icos://``
    The paths of a mount in every library that knows fsspec, without a mount:
    ``pandas.read_csv("icos://objects/UNhY4JhezH9gQYqvDMWrWH9C.csv")``.
``icosfs.read()``, ``icosfs.open_dataset()``
    A table by station and variable, as a pandas frame or an xarray dataset.
``icosfs.mount()``
    Mounts the repository for the time of a ``with`` block.
``icosfs.program()``
    The path of the program.

The settings are those of the program: ``ICOSFS_*`` variables and ``config.toml``.
"""

from importlib import metadata as _metadata

from ._filesystem import IcosFileSystem
from ._mount import Mount, mount
from ._program import IcosfsError, program
from ._tables import open_dataset, read

try:
    __version__ = _metadata.version("icosfs")
except _metadata.PackageNotFoundError:
    # Imported from a checkout.
    __version__ = "0+checkout"

__all__ = [
    "__version__",
    "IcosFileSystem",
    "IcosfsError",
    "Mount",
    "mount",
    "open_dataset",
    "program",
    "read",
]
