"""Points the portal's Python libraries, unmodified, at services elsewhere.

Import this before them. Every request to one of the real services goes to the
URL in ICOS_AUTH, ICOS_META or ICOS_DATA instead.
"""

import os

from icoscp_core import http

_SERVICES = {
    "https://cpauth.icos-cp.eu": os.environ["ICOS_AUTH"],
    "https://meta.icos-cp.eu": os.environ["ICOS_META"],
    "https://data.icos-cp.eu": os.environ["ICOS_DATA"],
}


class _Request(http.Request):
    def __init__(self, url: str, **rest):
        for real, elsewhere in _SERVICES.items():
            if url.startswith(real):
                super().__init__(url=elsewhere + url[len(real):], **rest)
                return
        raise ValueError(f"a request to {url}, which is none of the services")


http.Request = _Request
