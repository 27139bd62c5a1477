"""Registers `icos://`, as the entry point of the wheel does."""

import fsspec
import pytest

import icosfs

fsspec.register_implementation("icos", icosfs.IcosFileSystem)


@pytest.fixture
def fs() -> icosfs.IcosFileSystem:
    return icosfs.IcosFileSystem()
