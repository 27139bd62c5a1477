"""Writes the licences of everything that the program is made of to standard output.

The crates are those that `cargo tree` lists for this build, the C libraries that some
of them bring included. Each text is printed once, with the names of the crates that it
belongs to. Fails for a crate without a licence file, unless its licence is a text that
another crate brings.
"""

import json
import pathlib
import re
import subprocess
import sys

NAMES = re.compile(r"^(licen[sc]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# Deeper files are those of tests and tools.
DEPTH = 3


def cargo(*arguments: str) -> str:
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def crates(build: list[str]) -> list[tuple[str, str]]:
    """Names and versions of what is linked into the program."""
    tree = cargo("tree", "--edges=normal", "--prefix=none", "--format={p}", *build)
    found = {tuple(line.split()[:2]) for line in tree.splitlines() if line and "(/" not in line}
    return sorted((name, version.lstrip("v")) for name, version in found)


def texts(folder: pathlib.Path) -> list[str]:
    """The licence files in `folder` and its nearest folders."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        skipped = {"tests", "test", "examples", "benches", "doc", "docs", "fuzz"}
        if len(parts) > DEPTH or skipped & set(parts[:-1]):
            continue
        if path.is_file() and NAMES.match(path.name) and path.suffix not in {".rs", ".py", ".sh"}:
            found.append(path.read_text(errors="replace").strip())
    return found


def main() -> None:
    build = sys.argv[1:]
    packages = json.loads(cargo("metadata", "--format-version=1", "--all-features"))["packages"]
    known = {(package["name"], package["version"]): package for package in packages}
    owners: dict[str, list[str]] = {}
    without = []
    for crate in crates(build):
        package = known[crate]
        name = f"{crate[0]} {crate[1]}"
        found = texts(pathlib.Path(package["manifest_path"]).parent)
        for text in found:
            owners.setdefault(text, []).append(name)
        if not found:
            without.append((name, package["license"], package["authors"]))
    print("icosfs is licensed under MIT or Apache-2.0. It contains the following software.\n")
    for name, licence, authors in without:
        by = f", by {', '.join(authors)}" if authors else ""
        print(f"{name}{by}: {licence}; the texts of these licences are below.")
    # The standard library of Rust has the licences of icosfs, which come first.
    for path in sorted(pathlib.Path("packaging/licences").glob("*.txt")):
        owners.setdefault(path.read_text().strip(), []).append(path.stem)
    for text, names in sorted(owners.items(), key=lambda item: -len(item[1])):
        print("\n" + "=" * 80)
        print(", ".join(dict.fromkeys(names)))
        print("=" * 80 + "\n")
        print(text)


main()
