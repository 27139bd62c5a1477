"""Opens files and folders by handle after the kernel has forgotten their inodes.

Usage: handles.py MOUNTPOINT PATH...
"""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


class Handle(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_ubyte * 128),
    ]


def checked(result, what):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
    return result


def handle_of(path):
    handle, mount = Handle(128, 0), ctypes.c_int()
    references = ctypes.byref(handle), ctypes.byref(mount)
    checked(libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), *references, 0), path)
    return handle


def content(fd):
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        return sorted(os.listdir(fd))
    return os.read(fd, 1000)


def content_by_path(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return content(fd)
    finally:
        os.close(fd)


mountpoint, paths = sys.argv[1], sys.argv[2:]
handles = [(path, handle_of(path), content_by_path(path)) for path in paths]
root = os.open(mountpoint, os.O_RDONLY)
with open("/proc/sys/vm/drop_caches", "w") as drop:
    drop.write("2")
for path, handle, expected in handles:
    fd = checked(libc.open_by_handle_at(root, ctypes.byref(handle), os.O_RDONLY), path)
    found = content(fd)
    os.close(fd)
    assert found == expected, (path, found, expected)
print(len(handles), "opened")
