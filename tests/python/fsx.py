"""Reads a file here and there, in every way, and compares it with another."""

import mmap
import os
import random
import sys
import time

path, right, seed = sys.argv[1], open(sys.argv[2], "rb").read(), int(sys.argv[3])
dice = random.Random(seed)
files = []
counts = dict.fromkeys(("open", "pread", "read", "map", "forget"), 0)


def check(what, at, found, length):
    expected = right[at:at + length]
    if found != expected:
        wrong = next((n for n, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
        sys.exit(f"seed {seed}: {what} of {length} at {at}: {len(found)} bytes, not {len(expected)}; other from {at + wrong} on")


for step in range(400):
    if len(files) < 3 or dice.random() < 0.05:
        files.append(os.open(path, os.O_RDONLY))
        if os.fstat(files[-1]).st_size != len(right):
            sys.exit(f"{os.fstat(files[-1]).st_size} bytes, not {len(right)}")
        counts["open"] += 1
        if len(files) > 6:
            os.close(files.pop(0))
    file = dice.choice(files)
    length = dice.choice([1, 511, 4096, 65_537, 300_000])
    at = dice.randrange(len(right) + (5000 if dice.random() < 0.1 else 0))
    way = dice.choice(["pread", "pread", "read", "map", "forget"])
    counts[way] += 1
    try:
        if way == "pread":
            check(way, at, os.pread(file, length, at), length)
        elif way == "read":
            os.lseek(file, at, os.SEEK_SET)
            check(way, at, os.read(file, length), length)
        elif way == "map" and at < len(right):
            start = at - at % mmap.ALLOCATIONGRANULARITY
            length = min(length, len(right) - at)
            with mmap.mmap(file, at - start + length, access=mmap.ACCESS_READ, offset=start) as mapped:
                check(way, at, mapped[at - start:], length)
        elif way == "forget":
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        sys.exit(f"seed {seed}, step {step}: {way} of {length} at {at}: {error}")
print(counts, "all as in the original")
