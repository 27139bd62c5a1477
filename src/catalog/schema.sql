-- Times are in milliseconds since 1970. Ids are the 18 bytes of an object's id.

-- The keys of data types, stations and labels are hashes of their IRI or text.
-- So a key that was read from a former file of the catalog denotes the same in a
-- new file, or nothing.

-- When a list was last downloaded.
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- Data types.
CREATE TABLE spec (
    row INTEGER PRIMARY KEY,
    iri TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    level INTEGER NOT NULL,
    format TEXT NOT NULL,
    dataset TEXT,
    -- Labels, and then IRIs.
    theme TEXT,
    project TEXT,
    theme_iri TEXT,
    project_iri TEXT,
    -- Whether it is on the repository's list of data types.
    offered INTEGER NOT NULL,
    -- Which of its objects are stored: 0 some, 1 the current ones, 2 all versions.
    synced INTEGER NOT NULL DEFAULT 0,
    -- Objects submitted before this time are stored.
    until INTEGER NOT NULL DEFAULT 0,
    -- When they were last downloaded.
    taken INTEGER
);

-- Columns of datasets.
CREATE TABLE field (
    dataset TEXT NOT NULL,
    title TEXT NOT NULL,
    format TEXT NOT NULL,
    optional INTEGER NOT NULL,
    regex INTEGER NOT NULL,
    value TEXT,
    unit TEXT
);

CREATE TABLE station (
    row INTEGER PRIMARY KEY,
    iri TEXT NOT NULL UNIQUE,
    -- The other columns are set only for the repository's own stations.
    code TEXT,
    name TEXT,
    country TEXT,
    class TEXT,
    lat REAL,
    lon REAL,
    elevation REAL
);

-- Lists of column labels, which many tables share.
CREATE TABLE labels (row INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);

-- Data objects and documents.
CREATE TABLE object (
    -- Never reused, so that a listing can continue after it.
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    submitted INTEGER NOT NULL,
    spec INTEGER,
    station INTEGER,
    rows INTEGER,
    labels INTEGER,
    doi TEXT,
    next BLOB,
    starts INTEGER,
    ends INTEGER,
    height REAL,
    -- 0 on no list, 1 current, 2 superseded.
    shown INTEGER NOT NULL,
    -- Hash of the name without its extension; whether another object has the same.
    stem INTEGER NOT NULL,
    shared INTEGER NOT NULL
);
CREATE INDEX object_station ON object (station, spec);
CREATE INDEX object_spec ON object (spec);
CREATE INDEX object_stem ON object (stem);

CREATE TABLE collection (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    title TEXT NOT NULL,
    doi TEXT,
    current INTEGER NOT NULL,
    -- When its members were last downloaded.
    taken INTEGER
);

-- Members of collections, in order.
CREATE TABLE member (
    collection BLOB NOT NULL,
    position INTEGER NOT NULL,
    item BLOB NOT NULL,
    PRIMARY KEY (collection, position),
    UNIQUE (collection, item)
) WITHOUT ROWID;

-- Titles and keywords, by the IRI of what has them.
CREATE TABLE text (item TEXT NOT NULL, text TEXT NOT NULL);

-- Entries of archives: the portal's list as JSON.
CREATE TABLE archive (id BLOB PRIMARY KEY, entries TEXT NOT NULL) WITHOUT ROWID;
