"""The studio's server: on the loopback address only, for this machine's own browser, every answer bounded.

The standard library's server is enough for one person on one machine; see docs/decisions/studio.md.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from polyconv.see.studio import page
from polyconv.see.studio.answers import frames, view
from polyconv.see.studio.picture import MAX_BYTES, picture

HOST = "127.0.0.1"
MAX_ADDRESS, MAX_FIELDS = 8192, 16
MAX_CONNECTIONS, MAX_WORK = 32, 4  # open at once, and under way at once
SECONDS = 10.0  # to send a request, and to wait for a turn
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_Answer = tuple[str, bytes]


class StudioServer(ThreadingHTTPServer):
    """Listens on one port of the loopback address.

    Args:
        port: 0 for a free one.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, port: int = 0) -> None:
        self.connections = BoundedSemaphore(MAX_CONNECTIONS)
        self.work = BoundedSemaphore(MAX_WORK)
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names by which this machine's own browser may ask for it: a page elsewhere cannot take one of them."""
        return tuple(f"{name}:{self.port}" for name in (HOST, "localhost"))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection where there is room for one."""
        if not self.connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self.connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer it, and make room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError | socket.timeout):
            super().handle_error(request, client_address)


class _RefusedError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: StudioServer
    timeout = SECONDS
    server_version, sys_version = "polyconv", ""

    def do_GET(self) -> None:
        """A page, its files, or what a state shows."""
        self._respond(self._get)

    def do_POST(self) -> None:
        """A picture to try a network on."""
        self._respond(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged: the address holds what a person does."""

    def _respond(self, answer: Callable[[], _Answer]) -> None:
        try:
            self._check()
            kind, content = answer()
            status = HTTPStatus.OK
        except _RefusedError as refused:
            status, kind, content = refused.status, "text/plain", str(refused).encode()
        self._send(status, kind, content)

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _check(self) -> None:
        """Only this machine's own browser, from this page: a page of another host gets nothing."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, f"this address is not the studio's. Open {self.server.url}")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self.server.hosts}:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the studio answers its own page only")
        if self.command != "GET" and origin is None:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the studio takes pictures from its own page only")
        asked_by = self.headers.get("Sec-Fetch-Site", "none")
        if urlsplit(self.path).path != "/" and asked_by not in ("none", "same-origin"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "the studio answers its own page only")
        if len(self.path) > MAX_ADDRESS:
            raise _RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG, f"the address is longer than {MAX_ADDRESS} characters")

    def _query(self) -> dict[str, str]:
        try:
            pairs = parse_qsl(urlsplit(self.path).query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the address has more than {MAX_FIELDS} fields") from None
        return dict(pairs)

    def _get(self) -> _Answer:
        path = urlsplit(self.path).path
        if path in page.FILES:
            return page.FILES[path], page.file(path)
        routes: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {"/api/view": view, "/api/frames": frames}
        if path not in routes:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        return self._worked(lambda: routes[path](self._query()))

    def _post(self) -> _Answer:
        if urlsplit(self.path).path != "/api/picture":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing here")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        if int(length) > MAX_BYTES:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the file has {int(length):,} bytes, the studio reads at most {MAX_BYTES:,}. Make the picture smaller",
            )
        content = self.rfile.read(int(length))
        return self._worked(lambda: picture(self._query(), content))

    def _worked(self, work: Callable[[], dict[str, Any]]) -> _Answer:
        """The answer of some work, of which little runs at a time."""
        if not self.server.work.acquire(timeout=SECONDS):
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the studio is busy. Try again")
        try:
            made = work()
        finally:
            self.server.work.release()
        return "application/json", json.dumps(made, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
