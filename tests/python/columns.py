"""Digests of tables' columns as icoscp_core reads them: by HTTP, or with
PORTAL_DATA_PATH_ICOS from files."""

import hashlib
import sys

import elsewhere  # noqa: F401
from icoscp_core.icos import data, meta

for landing_page in sys.argv[1:]:
    arrays = data.get_columns_as_arrays(meta.get_dobj_meta(landing_page), keep_bad_data=True)
    digest = hashlib.sha256()
    for label, values in arrays.items():
        digest.update(f"{label} {values.dtype}".encode())
        digest.update(values.tobytes())
    print(landing_page.rsplit("/", 1)[-1], len(arrays), digest.hexdigest())
