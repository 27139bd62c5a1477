"""A store that speaks as much of S3 as the tests need, and ignores conditions silently,
as `rclone serve s3` does. Prints its port.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

objects: dict[str, bytes] = {}
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, body: bytes = b"", etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 12:00:00 GMT")
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            objects[self.path] = body
        self.reply(200, etag=hashlib.md5(body).hexdigest())

    def do_GET(self) -> None:
        with lock:
            body = objects.get(self.path)
        if body is None:
            self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.reply(200, body, hashlib.md5(body).hexdigest())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200, b"<DeleteResult></DeleteResult>")

    def log_message(self, format: str, *args: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
