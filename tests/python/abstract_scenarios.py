"""Writes an archive with the folders that fsspec's abstract tests read."""

import sys
import zipfile
from hashlib import md5

NESTED = ["subfile1", "subfile2", "nesteddir/nestedfile"]
names = ["bulk/source/file1", "bulk/source/file2"]
names += [f"bulk/source/subdir/{name}" for name in NESTED]
names += ["glob/source/file1", "glob/source/file2"]
names += [f"glob/source/subdir{n}/{name}" for n in range(2) for name in NESTED]
names += ["prefix/source/subdir.txt", "prefix/source/subdir/subfile.txt"]
names += ["recursive/src/file"]
contents = {name: b"" for name in names}
for n in range(10):
    hashed = md5(str(n).encode()).hexdigest()
    contents[f"hashed/source/{hashed}.txt"] = str(n).encode()
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    for name, content in contents.items():
        archive.writestr(name, content)
