"""The current objects of each station as icoscp_core lists them: for each
station's id, ids with data types, as JSON."""

import json

import elsewhere  # noqa: F401
from icoscp_core.icos import meta


def last(uri):
    return uri.rsplit("/", 1)[-1]


def listed(stations):
    """What it lists for these, by the station's IRI."""
    lists = {station.uri: [] for station in stations}
    for found in meta.list_data_objects(station=stations, limit=10_000):
        lists[found.station_uri].append([last(found.uri), last(found.datatype_uri)])
    return {uri: sorted(objects) for uri, objects in lists.items()}


stations = meta.list_stations()
# Asked for together: one by one takes a minute.
lists = listed(stations)
for station in sorted(stations, key=lambda s: len(lists[s.uri]))[-5:]:
    assert listed([station])[station.uri] == lists[station.uri], station.id
print(json.dumps({station.id: lists[station.uri] for station in stations}))
