"""Lets litmus, the tests of WebDAV, run on a read-only server: `litmus_adapter.py URL FILE`.

litmus begins by creating a collection and files in it. This adapter replies to what would
change something as if it had been done, and sends all other requests to the server at URL:
those for the collection to the folder of FILE, those for its files to FILE, whose bytes
are those that litmus uploads. Prints its own URL.
"""

import http.client
import http.server
import sys
import urllib.parse

SERVER = urllib.parse.urlsplit(sys.argv[1])
FILE = "/" + sys.argv[2]
FOLDER = FILE[: FILE.rindex("/") + 1]
#: What is sent on one connection only.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "content-length"}


class Adapter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: The files that litmus has uploaded.
    uploaded: set[str] = set()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def done(self) -> None:
        """Replies as if something had been changed."""
        self.body()
        existed = self.path in self.uploaded
        if self.command == "PUT":
            self.uploaded.add(self.path)
        if self.command == "DELETE":
            self.uploaded.discard(self.path)
        self.reply(204 if existed or self.command == "DELETE" else 201, [], b"")

    def forward(self) -> None:
        """Replies as the server does."""
        path = urllib.parse.urlsplit(self.path).path
        if path in self.uploaded:
            path = FILE
        elif path == "/litmus/":
            path = FOLDER
        connection = http.client.HTTPConnection(SERVER.hostname, SERVER.port, timeout=30)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in HOP_BY_HOP | {"host"}
        }
        connection.request(self.command, path, self.body() or None, headers)
        reply = connection.getresponse()
        kept = [(name, value) for name, value in reply.getheaders() if name.lower() not in HOP_BY_HOP]
        body = reply.read()
        if self.command == "PROPFIND":
            # A collection is asked for alone.
            body = body.replace(f"<D:href>{path}</D:href>".encode(), f"<D:href>{self.path}</D:href>".encode())
        self.reply(reply.status, kept, body)
        connection.close()

    def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_MKCOL = do_DELETE = done
    do_GET = do_HEAD = do_OPTIONS = do_PROPFIND = do_PROPPATCH = forward

    def log_message(self, *_: object) -> None:
        pass


class AdapterServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """litmus closes connections when it likes."""


server = AdapterServer(("127.0.0.1", 0), Adapter)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
