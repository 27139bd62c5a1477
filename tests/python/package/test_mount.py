"""`icosfs.mount()`, run by tests/python.rs with the program under test."""

import os
import subprocess
import sys

import pytest

import icosfs


def test_mount_is_readable_in_the_block_and_unmounted_after_it() -> None:
    with icosfs.mount(demo=True) as mounted:
        assert os.path.ismount(mounted)
        with open(mounted / "README.md", encoding="utf-8") as readme:
            assert readme.read()
    assert not os.path.exists(mounted.path)


def test_mount_is_unmounted_if_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        with icosfs.mount(demo=True) as mounted:
            1 / 0
    assert not os.path.exists(mounted.path)


def test_forked_child_does_not_unmount_the_mount_of_its_parent() -> None:
    with icosfs.mount(demo=True) as mounted:
        child = os.fork()
        if child == 0:
            mounted.unmount()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert os.path.ismount(mounted)


def test_failed_mount_raises_the_reason_of_the_program(tmp_path: object) -> None:
    with pytest.raises(icosfs.IcosfsError, match="invalid value 'mars'"):
        icosfs.mount(f"{tmp_path}/absent", portal="mars")


def test_module_runs_the_program() -> None:
    command = [sys.executable, "-m", "icosfs", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("icosfs ")
