"""The data of the ICOS Carbon Portal, SITES and ICOS Cities as plain files.

The package contains the program ``icosfs`` (see ``icosfs --help``) and what uses it
from Python:

``icosfs.mount()``
    Mounts the repository for the time of a ``with`` block.
``icosfs.program()``
    The path of the program.

The settings are those of the program: ``ICOSFS_*`` variables and ``config.toml``.
"""

from ._mount import Mount, mount
from ._program import IcosfsError, program

__all__ = ["IcosfsError", "Mount", "mount", "program"]
