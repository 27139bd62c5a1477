"""The tests of fsspec itself, as far as they read: those of `get`.

Each scenario is a folder of an archive, whose id is in `ICOSFS_TEST_ARCHIVE`.
"""

import os

import pytest
from fsspec.tests import abstract

import icosfs

ROOT = f"objects/{os.environ['ICOSFS_TEST_ARCHIVE']}.contents"


class ScenariosInAnArchive(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self) -> icosfs.IcosFileSystem:
        return icosfs.IcosFileSystem()

    @pytest.fixture
    def fs_path(self) -> str:
        return f"{ROOT}/none"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self) -> str:
        return f"{ROOT}/bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self) -> str:
        return f"{ROOT}/glob/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        return f"{ROOT}/prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        return f"{ROOT}/hashed/source"


class TestGet(abstract.AbstractGetTests, ScenariosInAnArchive):
    def test_get_directory_recursive(  # type: ignore[no-untyped-def]
        self, fs, fs_join, fs_path, local_fs, local_join, local_target
    ) -> None:
        """The test of fsspec, which creates its folder, with one of the archive."""
        source = f"{ROOT}/recursive/src"
        for target_exists in (False, True):
            target = local_join(local_target, str(target_exists))
            if target_exists:
                local_fs.mkdir(target)
            for _ in range(2):
                fs.get(source, target, recursive=True)
                below = local_join(target, "src") if target_exists else target
                if not local_fs.isfile(local_join(below, "file")):
                    # A second copy goes into the folder that now exists.
                    below = local_join(target, "src")
                assert local_fs.isfile(local_join(below, "file"))
