"""Compares every table in a mount with the portal's /csv: see compare-tables.

Usage: compare_tables.py ICOSFS FOLDER-OF-RDF-DUMPS NOTES

NOTES has a line for each table compared so far, so that an interrupted run can be
continued. It is removed once all tables are equal.
"""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

TABLES = """
prefix cpmeta: <http://meta.icos-cp.eu/ontologies/cpmeta/>
select distinct ?dobj where { ?dobj cpmeta:hasNumberOfRows ?rows }
"""
PIECE = 1 << 20


def tables(portal):
    """The ids of all objects that have rows."""
    request = urllib.request.Request(
        f"{portal['meta']}/sparql", TABLES.encode(), {"Accept": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        rows = json.load(answer)["results"]["bindings"]
    return sorted(row["dobj"]["value"].rsplit("/", 1)[-1] for row in rows)


def compared(portal, mount, name):
    """The result of comparing one table, and its length."""
    request = urllib.request.Request(f"{portal['data']}/csv/{name}", headers={"Cookie": portal["token"]})
    path = mount / f"objects/{name}.csv"
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        try:
            path.read_bytes()
        except OSError:
            return "served by neither", 0
        return f"DIFFERS: the portal says {error.code}, the mount has it", 0
    length = 0
    with answer, path.open("rb") as file:
        said = os.fstat(file.fileno()).st_size
        while True:
            theirs = answer.read(PIECE)
            ours = file.read(len(theirs) or 1)
            if theirs != ours:
                return f"DIFFERS within {PIECE} bytes from {length}", length
            if not theirs:
                break
            length += len(theirs)
    return ("the same", length) if said == length else (f"DIFFERS: {said} bytes by fstat, {length} read", length)


class Notes:
    """The results so far, stored in a file with one line per table."""

    def __init__(self, path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        rows = [line.split("\t") for line in lines]
        # The last line may be incomplete. Tables that differed are compared again.
        self.known = {
            row[0]: (row[1], int(row[2])) for row in rows if len(row) == 4 and not row[1].startswith("DIFFERS")
        }

    def add(self, name, result, length):
        self.known[name] = (result, length)
        with self.path.open("a") as file:
            file.write(f"{name}\t{result}\t{length}\t.\n")


def main():
    icosfs, rdf = sys.argv[1:3]
    notes = Notes(pathlib.Path(sys.argv[3]))
    server = subprocess.Popen([icosfs, "demo", "--rdf", rdf], stdout=subprocess.PIPE, text=True)
    home = pathlib.Path(tempfile.mkdtemp())
    mount = home / "mnt"
    mount.mkdir()
    try:
        portal = json.loads(server.stdout.readline())
        where = ["--auth-url", portal["auth"], "--meta-url", portal["meta"], "--data-url", portal["data"]]
        subprocess.run(
            [icosfs, "mount", *where, "--include-deprecated", "--cache-dir", home / "cache", mount],
            check=True, stdin=subprocess.DEVNULL, env={**os.environ, "ICOSFS_TOKEN": portal["token"]},
        )
        # Load all lists at once: querying older versions one by one would use up
        # the quota of SPARQL queries.
        os.listdir(mount / "objects")
        names = tables(portal)
        left = [name for name in names if name not in notes.known]
        if len(left) < len(names):
            print(f"{len(names) - len(left)} were compared before", file=sys.stderr, flush=True)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            futures = {pool.submit(compared, portal, mount, name): name for name in left}
            for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
                name, (result, length) = futures[future], future.result()
                notes.add(name, result, length)
                if result.startswith("DIFFERS"):
                    print(f"{name}: {result}", flush=True)
                if number % 50 == 0:
                    print(f"{number} of {len(left)}", file=sys.stderr, flush=True)
        found = [notes.known[name] for name in names]
        results, size = {}, sum(length for _, length in found)
        for result, _ in found:
            kind = result.split(":")[0].split(" within")[0]
            results[kind] = results.get(kind, 0) + 1
        print(f"{len(names)} tables, {size / 1e9:.2f} GB of CSV: {results}")
        if names and "DIFFERS" not in results:
            notes.path.unlink()
            return
        sys.exit(1)
    finally:
        subprocess.run([icosfs, "unmount", "--lazy", mount], check=False)
        server.terminate()
        server.wait()
        subprocess.run(["rm", "-rf", home], check=False)


main()
