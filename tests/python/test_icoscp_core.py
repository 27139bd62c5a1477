"""The portal's own Python client, unmodified, against the demo portal.

Only its `EnvriConfig` points elsewhere. Two of its functions do not follow the
configuration, and are met without touching it: `get_dobj_meta` fetches an
object's IRI itself, so it is given landing pages on the demo's address; and
`get_station_meta` replaces "http://" in a station's IRI by "https://", which
the equally valid "HTTP://" escapes.

Run by `cargo test` (tests/python.rs), which sets ICOSFS_BIN, and ICOSFS_SHARED
for the tests of real metadata.
"""

import base64
import hashlib
import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from icoscp_core.auth import PasswordAuth, parse_auth_token
from icoscp_core.bootstrap import Bootstrap
from icoscp_core.envri import ICOS_CONFIG
from icoscp_core.geofeaturemeta import Point
from icoscp_core.metaclient import (
    SamplingHeightFilter,
    SizeFilter,
    TimeFilter,
    box_intersect,
)

CPMETA = "http://meta.icos-cp.eu/ontologies/cpmeta/"
CPRES = "http://meta.icos-cp.eu/resources/cpmeta/"
STATIONS = "http://meta.icos-cp.eu/resources/stations/"
HTM_CO2 = "ICOS_ATC_L2_L2-2024.1_HTM_150.0_CTS.CO2.zip"
FLUXES = "ICOSETC_SE-Htm_FLUXES_L2.csv"


class Portal:
    """A demo portal in a process of its own, and clients of it."""

    def __init__(self, *arguments):
        if "--rdf" not in arguments:
            arguments = ("--difficult", *arguments)
        self.process = subprocess.Popen(
            [os.environ["ICOSFS_BIN"], "demo", *arguments], stdout=subprocess.PIPE
        )
        about = json.loads(self.process.stdout.readline())
        self.auth_url, self.meta_url, self.data_url = (
            about[service] for service in ("auth", "meta", "data")
        )
        self.control_url = about["control"]
        self.user, self.password, self.token = (
            about[part] for part in ("user", "password", "token")
        )
        self.config = replace(
            ICOS_CONFIG,
            sparql_endpoint=self.meta_url + "/sparql",
            auth_service_base_url=self.auth_url + "/",
            data_service_base_url=self.data_url,
        )
        self.bootstrap = Bootstrap(self.config)
        self.meta, self.data = self.bootstrap.fromCookieToken(self.token)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(10) == 0

    def control(self, method, path, body=None):
        request = urllib.request.Request(
            self.control_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def csv(self, hash_id, column=None):
        """What the data service itself says, line by line."""
        query = "" if column is None else "?" + urllib.parse.urlencode({"col": column})
        request = urllib.request.Request(
            f"{self.data_url}/csv/{hash_id}{query}", headers={"Cookie": self.token}
        )
        with urllib.request.urlopen(request) as answer:
            return answer.read().decode()

    def all_objects(self, **choices):
        return self.meta.list_data_objects(limit=10000, **choices)

    def object(self, name):
        """The newest object with this file name."""
        return next(o for o in self.all_objects() if o.filename == name)

    def landing_page(self, uri):
        return self.meta_url + urllib.parse.urlsplit(uri).path

    def dobj_meta(self, dobj):
        return self.meta.get_dobj_meta(self.landing_page(dobj.uri))


@pytest.fixture(scope="module")
def portal():
    portal = Portal()
    yield portal
    portal.stop()


@pytest.fixture(scope="module")
def real_portal():
    portal = Portal("--rdf", os.path.join(os.environ["ICOSFS_SHARED"], "portal-rdf"))
    yield portal
    portal.stop()


def cell_matches(cell, value):
    """Whether a value of the client's arrays is what a CSV's cell says."""
    match value.dtype.kind:
        case "f":
            return (
                np.isnan(value)
                if cell == ""
                else value.tobytes() == value.dtype.type(cell).tobytes()
            )
        case "U":
            return cell == value
        case "m":
            if cell == "":
                return value.astype("i8") == -(2**31)
            hours, minutes, seconds = (cell + ":00").split(":")[:3]
            seen = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
            return value.astype("i8") % 86400 == seen
        case "M" if cell == "":
            # The client shifts the missing month's number past the smallest.
            missing = {"D": -(2**31), "M": 2**31 - 1970 * 12}
            unit = np.datetime_data(value.dtype)[0]
            return np.isnat(value) if unit == "ms" else value.astype("i8") == missing[unit]
        case "M":
            return value == np.datetime64(cell.removesuffix("Z"))
        case "i":
            missing = {1: -128, 4: -(2**31)}[value.dtype.itemsize]
            return value == (missing if cell == "" else int(cell))


def assert_arrays_are_the_csv(portal, hash_id, arrays, offset=0):
    assert len(arrays) > 0
    for name, array in arrays.items():
        title, *cells = portal.csv(hash_id, name).split("\n")[:-1]
        assert title == name
        cells = cells[offset : offset + len(array)]
        assert len(cells) == len(array)
        for row, (cell, value) in enumerate(zip(cells, array)):
            assert cell_matches(cell, value), (hash_id, name, row, cell, value)


# Bootstraps


def test_a_cookie_token_opens_the_portal(portal):
    _, data = portal.bootstrap.fromCookieToken(portal.token + ";")
    assert data.get_file_stream(portal.object(FLUXES))[1].status == 200


def test_credentials_open_the_portal(portal):
    _, data = portal.bootstrap.fromCredentials(portal.user, portal.password)
    assert data.get_file_stream(portal.object(FLUXES))[1].status == 200
    assert data.auth.get_token().user_id == portal.user


def test_a_password_file_opens_the_portal_and_keeps_the_token(portal, tmp_path):
    path = tmp_path / "cpauthToken_auth_conf.json"
    password = PasswordAuth.encode_password(portal.password)
    path.write_text(json.dumps({"user_id": portal.user, "password": password}))
    auth, _, data = portal.bootstrap.fromPasswordFile(str(path))
    assert data.get_file_stream(portal.object(FLUXES))[1].status == 200
    kept = json.loads(path.read_text())["cookie_value"]
    assert kept.startswith("cpauthToken=") and kept.endswith(";")
    token = parse_auth_token(kept)
    assert token.auth_source == "Password" and token.is_fresh()
    # The next start needs no login.
    portal.control("DELETE", "/requests")
    again, _, _ = portal.bootstrap.fromPasswordFile(str(path))
    assert again.get_token().cookie_value == kept
    assert json.loads(portal.control("GET", "/requests")) == []


def test_a_wrong_password_is_reported(portal):
    _, data = portal.bootstrap.fromCredentials(portal.user, "wrong")
    with pytest.raises(Exception, match="403, response: Incorrect user name or password"):
        data.get_file_stream(portal.object(FLUXES))


def test_the_licence_must_be_accepted(portal):
    dobj = portal.object(FLUXES)
    portal.control("PUT", "/licence", {"accepted": False})
    try:
        with pytest.raises(Exception, match="Accepting data licence in your user profile"):
            portal.data.get_file_stream(dobj)
        with pytest.raises(Exception, match="licence in your user profile is required for CSV"):
            portal.data.get_csv_byte_stream(dobj)
        with pytest.raises(Exception, match="licence in your user profile is required for binary"):
            portal.data.get_columns_as_arrays(portal.dobj_meta(dobj))
    finally:
        portal.control("PUT", "/licence", {"accepted": True})


# Lists


def test_data_types_are_listed(portal):
    types = {t.uri.removeprefix(CPRES): t for t in portal.meta.list_datatypes()}
    assert "hiddenProduct" not in types
    co2 = types["atcCo2L2DataObject"]
    assert (co2.label, co2.data_level, co2.theme.label, co2.format.label) == (
        "ICOS ATC CO2 Release", 2, "Atmospheric data", "ICOS ATC time series",
    )
    assert co2.has_data_access and not types["inversionProduct"].has_data_access
    labels = [t.label for t in portal.meta.list_datatypes()]
    assert labels == sorted(labels)


def test_stations_are_listed(portal):
    stations = {s.id: s for s in portal.meta.list_stations()}
    assert sorted(stations) == ["11SS", "FI-Sii", "HTM", "OES", "SE-Htm", "SVB"]
    htm = stations["HTM"]
    assert (htm.name, htm.country_code, htm.lat, htm.lon, htm.elevation) == (
        "Hyltemossa", "SE", 56.0976, 13.4189, 115.0,
    )
    assert json.loads(stations["11SS"].geo_json)["type"] == "Polygon"
    assert [s.id for s in portal.meta.list_stations(CPMETA + "AS")] == ["HTM", "SVB"]
    everyone = portal.meta.list_stations(False)
    assert sorted(s.id for s in everyone) == sorted(stations)
    for station in stations.values():
        page = portal.meta_url.replace("http", "HTTP", 1)
        page = portal.meta.get_station_meta(page + urllib.parse.urlsplit(station.uri).path)
        assert (page.id, page.org.name, page.countryCode) == (
            station.id, station.name, station.country_code,
        )


def test_objects_are_listed_by_type_and_station(portal):
    co2 = portal.all_objects(datatype=CPRES + "atcCo2L2DataObject")
    assert {o.station_uri for o in co2} == {STATIONS + "AS_HTM", STATIONS + "AS_SVB"}
    assert len(co2) == 2
    everything = portal.all_objects(
        datatype=CPRES + "atcCo2L2DataObject", include_deprecated=True
    )
    assert len(everything) == 4
    # The deprecated are those that have a next version.
    current = {o.uri for o in co2}
    for dobj in everything:
        replaced = portal.dobj_meta(dobj).nextVersion is not None
        assert replaced == (dobj.uri not in current), dobj
    stations = portal.meta.list_stations(CPMETA + "ES")
    of_stations = portal.all_objects(station=stations)
    assert {o.station_uri for o in of_stations} == {s.uri for s in stations}
    both = portal.all_objects(
        datatype=[CPRES + "etcL2Fluxes", CPRES + "etcL2Meteosens"],
        station=STATIONS + "ES_FI-Sii",
    )
    assert len(both) == 2


def test_objects_are_filtered(portal):
    everything = portal.all_objects()
    for filter, holds in [
        (SizeFilter(">", 100_000), lambda o: o.size_bytes > 100_000),
        (SizeFilter("<=", 100_000), lambda o: o.size_bytes <= 100_000),
        (SamplingHeightFilter("<", 100), lambda o: (o.sampling_height or 1e9) < 100),
        (
            TimeFilter("submTime", "<", "2024-03-01T00:00:00Z"),
            lambda o: o.submission_time < datetime(2024, 3, 1, tzinfo=timezone.utc),
        ),
        (
            TimeFilter("timeStart", ">", datetime(2023, 2, 1, tzinfo=timezone.utc)),
            lambda o: o.time_start > datetime(2023, 2, 1, tzinfo=timezone.utc),
        ),
        (
            TimeFilter("timeEnd", "<", "2023-06-01T00:00:00Z"),
            lambda o: o.time_end < datetime(2023, 6, 1, tzinfo=timezone.utc),
        ),
        (
            box_intersect(Point(55.0, 12.0), Point(57.0, 15.0)),
            lambda o: o.station_uri is None
            or o.station_uri.endswith(("AS_HTM", "ES_SE-Htm")),
        ),
    ]:
        expected = {o.uri for o in everything if holds(o)}
        assert 0 < len(expected) < len(everything), filter
        assert {o.uri for o in portal.all_objects(filters=[filter])} == expected, filter
    narrow = [SizeFilter(">", 100_000), box_intersect(Point(55.0, 12.0), Point(57.0, 15.0))]
    assert 0 < len(portal.all_objects(filters=narrow)) < len(everything)


def test_objects_are_ordered_and_paged(portal):
    keys = {
        "submTime": lambda o: o.submission_time,
        "timeStart": lambda o: o.time_start,
        "timeEnd": lambda o: o.time_end,
        "size": lambda o: o.size_bytes,
        "fileName": lambda o: o.filename,
    }
    for prop, key in keys.items():
        values = [key(o) for o in portal.all_objects(order_by=prop)]
        assert values == sorted(values), prop
        down = portal.all_objects(order_by={"prop": prop, "descending": True})
        assert [key(o) for o in down] == sorted(values, reverse=True), prop
    everything = portal.all_objects(order_by="fileName")
    pages = [
        o
        for offset in range(0, len(everything), 7)
        for o in portal.meta.list_data_objects(order_by="fileName", limit=7, offset=offset)
    ]
    assert [o.filename for o in pages] == [o.filename for o in everything]


# Landing pages


def test_every_object_has_metadata_that_the_client_understands(portal):
    for dobj in portal.all_objects(include_deprecated=True):
        meta = portal.dobj_meta(dobj)
        assert (meta.fileName, meta.size) == (dobj.filename, dobj.size_bytes)
        assert meta.specification.self.uri == dobj.datatype_uri
    meta = portal.dobj_meta(portal.object(HTM_CO2))
    assert meta.specificInfo.nRows == 8760
    assert [c.label for c in meta.specificInfo.columns] == [
        "TIMESTAMP", "co2", "Stdev", "NbPoints", "Flag",
    ]
    assert meta.specificInfo.acquisition.samplingHeight == 150.0
    assert meta.references.licence.name == "ICOS CCBY4 Data Licence"


def test_stations_and_collections_have_metadata(portal):
    # An upper-case scheme is the same, and is not replaced.
    address = portal.meta_url.replace("http", "HTTP", 1)
    station = portal.meta.get_station_meta(address + "/resources/stations/AS_HTM")
    assert (station.id, station.org.name, station.specificInfo.stationClass) == (
        "HTM", "Hyltemossa", "1",
    )
    assert [m.person.lastName for m in station.staff] == ["Lindqvist", "Virtanen"]
    ship = portal.meta.get_station_meta(address + "/resources/stations/OS_11SS")
    assert ship.coverage.geo["geometry"]["type"] == "Polygon"

    parent = portal.dobj_meta(portal.object(HTM_CO2)).parentCollections[0]
    inner = portal.meta.get_collection_meta(portal.landing_page(parent.uri))
    assert inner.title == "Demo Atmosphere Release 2024"
    assert HTM_CO2 in [member.name for member in inner.members]
    outer = portal.meta.get_collection_meta(
        portal.landing_page(inner.parentCollections[0].uri)
    )
    assert inner.title in [getattr(m, "title", None) for m in outer.members]


# Contents


def test_originals_stream_and_hash_to_their_ids(portal):
    refused = []
    for dobj in portal.all_objects():
        try:
            name, stream = portal.data.get_file_stream(dobj)
        except Exception as error:
            refused.append(str(error))
            continue
        content = stream.read()
        assert (name, len(content)) == (dobj.filename, dobj.size_bytes)
        assert hashlib.sha256(content).hexdigest() == hash_of(portal, dobj)
    assert len(refused) == 4
    assert all("404" in error for error in refused)


def hash_of(portal, dobj):
    return base64.urlsafe_b64decode(portal.dobj_meta(dobj).hash + "=").hex()


def test_originals_are_saved_under_their_names(portal, tmp_path):
    dobj = portal.object(HTM_CO2)
    # By IRI alone, the name comes with the answer.
    for reference in [dobj, dobj.uri]:
        assert portal.data.save_to_folder(reference, str(tmp_path)) == HTM_CO2
        content = (tmp_path / HTM_CO2).read_bytes()
        assert len(content) == dobj.size_bytes
        assert hashlib.sha256(content).hexdigest() == hash_of(portal, dobj)
        (tmp_path / HTM_CO2).unlink()


def test_csv_streams_whole(portal):
    dobj = portal.object(HTM_CO2)
    arrays = portal.data.get_columns_as_arrays(portal.dobj_meta(dobj), keep_bad_data=True)
    with portal.data.get_csv_byte_stream(dobj) as stream:
        header, *rows = stream.read().decode().splitlines()
    assert len(rows) == 8760
    for index, name in enumerate(header.split(",")):
        for row, value in zip(rows, arrays[name]):
            assert cell_matches(row.split(",")[index], value), (name, row, value)
    with portal.data.get_csv_byte_stream(dobj) as stream:
        text = stream.read().decode()
    assert text == portal.csv(dobj.uri.split("/")[-1])
    # This version of the client puts its choices into a body, of which the
    # service, here as there, takes no notice.
    with portal.data.get_csv_byte_stream(dobj, ["co2"], limit=3, offset=1) as stream:
        assert stream.read().decode() == text


def test_columns_are_what_the_csv_says(portal):
    tables = 0
    for dobj in portal.all_objects():
        meta = portal.dobj_meta(dobj)
        columns = getattr(meta.specificInfo, "columns", None)
        if columns is None or any(c.valueFormat.endswith("/string") for c in columns):
            continue
        if "METEOSENS" in dobj.filename:
            # Its landing page lacks a column, so that this client's schema is
            # wrong; the next test reads it.
            continue
        arrays = portal.data.get_columns_as_arrays(meta, keep_bad_data=True)
        assert list(arrays) == sorted(c.label for c in columns)
        assert_arrays_are_the_csv(portal, meta.hash[:24], arrays)
        tables += 1
    assert tables >= 9


def test_batches_of_columns_are_what_the_csv_says(portal):
    for datatype in ["etcL2Fluxes", "etcL2Meteosens", "atcCh4L2DataObject", "everyFormat"]:
        dobjs = portal.all_objects(datatype=CPRES + datatype)
        assert len(dobjs) >= 2
        batch = portal.data.batch_get_columns_as_arrays(dobjs, keep_bad_data=True)
        for dobj, arrays in batch:
            if datatype == "etcL2Meteosens":
                # The client matches patterns at the start of names, as the
                # ingestion does, so it knows this one.
                assert "TS_1_1_1_SD" in arrays
            assert_arrays_are_the_csv(portal, dobj.uri.split("/")[-1], arrays)


def test_slices_of_columns_are_that_part(portal):
    meta = portal.dobj_meta(portal.object(FLUXES))
    arrays = portal.data.get_columns_as_arrays(
        meta, ["FC", "TIMESTAMP"], keep_bad_data=True, offset=1000, length=250
    )
    # The column's flags come along.
    assert list(arrays) == ["FC", "FC_QC", "TIMESTAMP"]
    assert {len(a) for a in arrays.values()} == {250}
    assert_arrays_are_the_csv(portal, meta.hash[:24], arrays, offset=1000)


def test_bad_data_are_left_out(portal):
    meta = portal.dobj_meta(portal.object(HTM_CO2))
    kept = portal.data.get_columns_as_arrays(meta, keep_bad_data=True)
    good = portal.data.get_columns_as_arrays(meta)
    bad = ~np.isin(kept["Flag"], ["O", "R", "U"])
    assert 0 < bad.sum() < len(bad)
    assert np.isnan(good["co2"][bad]).all()
    assert np.array_equal(good["co2"][~bad], kept["co2"][~bad], equal_nan=True)


def test_local_files_are_read_and_reported(portal, tmp_path, monkeypatch):
    meta = portal.dobj_meta(portal.object(HTM_CO2))
    remote = portal.data.get_columns_as_arrays(meta, keep_bad_data=True)
    folder = tmp_path / "asciiAtcProductTimeSer"
    folder.mkdir()
    columns = [remote[name] for name in ["Flag", "NbPoints", "Stdev", "TIMESTAMP", "co2"]]
    types = [">u2", ">i4", ">f4", ">f8", ">f4"]
    stored = b"".join(
        np.array([ord(c) if c else 0 for c in column]).astype(type).tobytes()
        if type == ">u2"
        else column.astype("i8").astype(type).tobytes()
        if type == ">f8"
        else column.astype(type).tobytes()
        for column, type in zip(columns, types)
    )
    (folder / f"{meta.hash[:24]}.cpb").write_bytes(stored)
    monkeypatch.setenv("PORTAL_DATA_PATH_ICOS", str(tmp_path))
    _, data = Bootstrap(portal.config).fromCookieToken(portal.token)
    portal.control("DELETE", "/requests")
    local = data.get_columns_as_arrays(meta, keep_bad_data=True)
    for name, array in remote.items():
        assert array.tobytes() == local[name].tobytes(), name
    # The report is sent by a thread.
    for _ in range(500):
        requests = json.loads(portal.control("GET", "/requests"))
        if requests and requests[0]["ended"]:
            break
        time.sleep(0.01)
    assert [(r["path"], r["status"]) for r in requests] == [("/logs/portaluse", 200)]
    assert json.loads(requests[0]["body"])["cpbFileAccess"]["objects"] == [meta.hash[:24]]


# Real metadata


def test_real_metadata_lists_are_as_long_as_they_are_known_to_be(real_portal):
    meta = real_portal.meta
    assert len(meta.list_datatypes()) == 74
    stations = {s.uri for s in meta.list_stations()}
    assert len(stations) == 141
    everywhere = {s.uri for s in meta.list_stations(False)}
    assert len(everywhere) == 212 and stations < everywhere
    current = {o.uri for o in real_portal.all_objects()}
    assert len(current) == 677
    everything = {o.uri for o in real_portal.all_objects(include_deprecated=True)}
    assert len(everything) == 1387 and current < everything


def test_real_metadata_objects_and_columns_are_understood(real_portal):
    """Of each data type an object, and its columns as far as it has any."""
    by_type = {o.datatype_uri: o for o in real_portal.all_objects(order_by="size")}
    assert len(by_type) > 15
    tables = 0
    for dobj in by_type.values():
        meta = real_portal.dobj_meta(dobj)
        assert meta.fileName == dobj.filename
        columns = getattr(meta.specificInfo, "columns", None)
        if columns is None or meta.specificInfo.nRows is None:
            continue
        if meta.specificInfo.nRows > 20_000:
            continue
        arrays = real_portal.data.get_columns_as_arrays(meta, keep_bad_data=True)
        some = {name: arrays[name][:500] for name in list(arrays)[:8]}
        assert_arrays_are_the_csv(real_portal, meta.hash[:24], some)
        tables += 1
    assert tables > 5


def test_real_metadata_stations_and_collections_are_understood(real_portal):
    address = real_portal.meta_url.replace("http", "HTTP", 1)
    for station in real_portal.meta.list_stations()[::7]:
        path = urllib.parse.urlsplit(station.uri).path
        meta = real_portal.meta.get_station_meta(address + path)
        assert (meta.id, meta.org.name) == (station.id, station.name)
    query = f"select ?coll where {{ ?coll a <{CPMETA}Collection> }} limit 40"
    found = real_portal.meta.sparql_select(query).bindings
    assert len(found) == 40
    for binding in found:
        uri = binding["coll"].uri
        if not uri.startswith("https://meta.icos-cp.eu/"):
            continue
        collection = real_portal.meta.get_collection_meta(real_portal.landing_page(uri))
        assert collection.res == uri
