"""``icosfs.read`` and ``icosfs.open_dataset``: a table by its station and variable."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from ._program import IcosfsError, program, reason_in, run
from ._server import Settings

if TYPE_CHECKING:
    import pandas
    import xarray

#: An id: 24 symbols of base64url, or the complete hash of 43.
_ID = re.compile(r"[A-Za-z0-9_-]{24}(?:[A-Za-z0-9_-]{19})?")


def read(
    station: str,
    variable: str | list[str] | None = None,
    *,
    good: bool = False,
    datatype: str | None = None,
    height: float | None = None,
    portal: str | None = None,
) -> pandas.DataFrame:
    """Reads a table as a pandas frame with a time index.

        icosfs.read("HTM", "co2", good=True)
        icosfs.read("UNhY4JhezH9gQYqvDMWrWH9C")

    Only the columns of the variables and of the time are downloaded.

    Args:
        station: the id of a station, or the id, PID or landing page of an object.
        variable: the label of a column, or several; by default all.
        good: replaces values whose quality flag is not good by missing values.
        datatype: the folder name of a data type, to select one of several objects.
        height: the height of the sampling in metres, likewise.
        portal: ``"icos"``, ``"sites"`` or ``"cities"``.

    Returns:
        A frame whose ``attrs`` have ``units`` (by column), ``id``, ``pid`` and
        ``citation``, as far as they are known.

    Raises:
        IcosfsError: no object or several match, with what to add; or the table cannot
            be read, with the reason.
    """
    try:
        import pandas  # noqa: F401
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise _missing("icosfs.read", error) from error

    settings = Settings(portal).arguments()
    names = [variable] if isinstance(variable, str) else variable
    found = _find(station, names, datatype, height, settings)
    columns = None if names is None else _columns(found, names, settings)
    table = pyarrow.parquet.read_table(io.BytesIO(_get(found, columns, good, settings)))
    frame: pandas.DataFrame = table.to_pandas(types_mapper=None)
    time = _time_column(table.schema)
    if time is not None:
        frame = frame.set_index(time)
    texts = {
        key.decode(): value.decode("utf-8", "replace")
        for key, value in (table.schema.metadata or {}).items()
    }
    units = {
        field.name: field.metadata[b"unit"].decode("utf-8", "replace")
        for field in table.schema
        if field.metadata and b"unit" in field.metadata and field.name != time
    }
    frame.attrs = {"id": found, "units": units}
    for key in ("pid", "citation", "doi", "licence"):
        if key in texts:
            frame.attrs[key] = texts[key]
    return frame


def open_dataset(
    station: str,
    variable: str | list[str] | None = None,
    *,
    good: bool = False,
    datatype: str | None = None,
    height: float | None = None,
    portal: str | None = None,
) -> xarray.Dataset:
    """Reads a table as an xarray dataset.

        icosfs.open_dataset("HTM", "co2", good=True)

    The dataset is that of the table's ``.nc`` file in a mount (with ``good``, of
    ``.good.nc``), restricted to the variables: the same names, dimensions, time
    coordinate, units and attributes. Only their columns and the time are downloaded, and
    the values are in memory. An object that is a NetCDF file itself is opened as it is.

    Arguments and errors are those of `read`.
    """
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise _missing("icosfs.open_dataset", error) from error

    settings = Settings(portal).arguments()
    if variable is None and _is_object(station):
        metadata = json.loads(run(["get", *settings, "--format", "json", "--", station]))
        name = str(metadata.get("fileName", ""))
        if name.endswith((".nc", ".nc4", ".cdf")):
            from ._filesystem import IcosFileSystem

            fs = IcosFileSystem(portal=portal)
            extension = name[name.rindex(".") :]
            file = fs.open(f"objects/{_short(station)}{extension}")
            return xarray.open_dataset(file)
    names = [variable] if isinstance(variable, str) else variable
    found = _find(station, names, datatype, height, settings)
    columns, flags = None, []
    if names is not None:
        columns = _columns(found, names, settings)
        # Attributes name the flags, so that the file needs them, too.
        flags = _flags(found, columns, settings)
        columns += flags
    # A file, since not every engine of xarray reads bytes in memory.
    with tempfile.TemporaryDirectory(prefix="icosfs-") as folder:
        path = os.path.join(folder, f"{found}.nc")
        _get(found, columns, good, [*settings, "--output", path], "netcdf")
        with xarray.open_dataset(path) as dataset:
            loaded: xarray.Dataset = dataset.load()
    # It would name the removed file.
    loaded.encoding.pop("source", None)
    return loaded.drop_vars(flags)


def _is_object(text: str) -> bool:
    return _ID.fullmatch(text.rstrip("/").rsplit("/", 1)[-1]) is not None


def _short(text: str) -> str:
    """The id in an id, PID or landing page."""
    return text.rstrip("/").rsplit("/", 1)[-1][:24]


def _find(
    station: str,
    names: list[str] | None,
    datatype: str | None,
    height: float | None,
    settings: list[str],
) -> str:
    """The id of the one object that is meant."""
    if _is_object(station):
        return _short(station)
    arguments = ["find", *settings, "--json", f"--station={station}"]
    if names:
        arguments.append(f"--variable={names[0]}")
    if datatype is not None:
        arguments.append(f"--datatype={datatype}")
    if height is not None:
        arguments.append(f"--height={height}")
    lines = run(arguments).splitlines()
    objects: list[dict[str, Any]] = [json.loads(line) for line in lines]
    objects = [one for one in objects if one["rows"] is not None]
    if len(objects) == 1:
        return str(objects[0]["id"])
    what = f"station {station}" + (f" with {', '.join(names)}" if names else "")
    if not objects:
        raise IcosfsError(f"no table of {what} was found; `icosfs find` lists what there is")
    listed = "".join(
        f"\n  {one['id']}  {one['fileName']}"
        + (f"  {one['samplingHeight']} m" if one["samplingHeight"] is not None else "")
        for one in objects[:20]
    )
    raise IcosfsError(
        f"{len(objects)} tables of {what} were found; select one by datatype= or height=, "
        f"or give its id:{listed}"
    )


def _described(found: str, settings: list[str]) -> list[dict[str, Any]]:
    """What the metadata say of the columns of an object."""
    page = json.loads(run(["get", *settings, "--format", "json", "--", found]))
    return list((page.get("specificInfo") or {}).get("columns") or [])


def _flags(found: str, chosen: list[str], settings: list[str]) -> list[str]:
    """The columns with the quality flags of `chosen`, without those that are among them."""
    columns = _described(found, settings)
    models = {
        (column.get("model") or {}).get("uri")
        for column in columns
        if str(column["label"]) in chosen
    }
    return [
        str(column["label"])
        for column in columns
        if models.intersection(column.get("isFlagFor") or [])
        and str(column["label"]) not in chosen
    ]


def _columns(found: str, names: list[str], settings: list[str]) -> list[str]:
    """The columns to read: the time, and the named ones."""
    columns = _described(found, settings)
    labels = [str(column["label"]) for column in columns]
    names = [_label(name, labels) for name in names]
    missing = [name for name in names if name not in labels]
    if missing:
        raise IcosfsError(
            f"object {found} has no column {', '.join(missing)}; it has {', '.join(labels)}"
        )
    times = [label for label in labels if label.upper().startswith("TIMESTAMP")]
    return [*times[:1], *(name for name in names if name not in times[:1])]


def _label(name: str, labels: list[str]) -> str:
    """The label that is meant: `name`, or the only one that differs in case only."""
    similar = [label for label in labels if label.lower() == name.lower()]
    return similar[0] if name not in labels and len(similar) == 1 else name


def _get(
    found: str,
    columns: list[str] | None,
    good: bool,
    settings: list[str],
    form: str = "parquet",
) -> bytes:
    arguments = ["get", *settings, "--format", form]
    if columns is not None:
        arguments.append("--columns=" + ",".join(columns))
    if good:
        arguments.append("--good-only")
    done = subprocess.run(
        [program(), *arguments, "--", found],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise IcosfsError(reason_in(done.stderr.decode("utf-8", "replace")))
    return done.stdout


def _missing(function: str, error: ModuleNotFoundError) -> IcosfsError:
    """The error if a package is missing that the extra `tables` installs."""
    return IcosfsError(
        f"{function} needs {error.name}\nhint: pip install {error.name}, or icosfs[tables]"
    )


def _time_column(schema: Any) -> str | None:
    """The column with the time of each row: the first one of times."""
    import pyarrow

    for field in schema:
        if pyarrow.types.is_timestamp(field.type):
            return str(field.name)
    return None
