"""A proxy on loopback before an HTTP server, which fails in the ways that servers and networks fail."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = ("hang", "latency", "status", "reset", "truncate")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@dataclass
class Fault:
    """What happens to requests whose method and path contain `where`.

    ``hang``: no answer until the fault is over; with `late`, the request then reaches the server, though nobody waits
    for it any more. ``latency``: `value` seconds before it is passed on. ``status``: the server is not asked, and
    `value` is answered. ``reset``: the server has done it, and the connection is reset before it can say so.
    ``truncate``: half of the answer's body.
    """

    kind: str
    value: float = 0.0
    where: str = ""
    times: int | None = None
    """How often it happens; None: always."""
    late: bool = False

    def __post_init__(self) -> None:
        assert self.kind in KINDS
        self.over = threading.Event()
        self.used = 0


class FaultProxy:
    """Passes requests on to the server at `upstream` while nothing is wrong, on a port that stays the same.

    Attributes
    ----------
    requests : list of str
        Method and path of every request that arrived.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.requests: list[str] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: _Server | None = None
        self.port = 0
        self.up()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Take connections."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), _Handler)
            self._server.proxy = self
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and cut those that there are."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self._connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def set(self, *faults: Fault) -> None:
        """Have these faults from now on, and no others."""
        with self._lock:
            before, self._faults = self._faults, list(faults)
        for fault in before:
            fault.over.set()

    @contextmanager
    def having(self, *faults: Fault) -> Iterator[None]:
        """Have these faults for a while."""
        self.set(*faults)
        try:
            yield
        finally:
            self.set()

    def fault_of(self, request: str) -> Fault | None:
        """What is to happen to a request."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.where in request and (fault.times is None or fault.used < fault.times):
                    fault.used += 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    proxy: FaultProxy

    def handle_error(self, request, client_address) -> None:
        """A connection that broke is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy._connections.add(self.connection)

    def finish(self) -> None:
        self.server.proxy._connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *arguments) -> None:
        """Nothing: the requests are kept."""

    def _pass(self) -> None:
        content = self._content()
        fault = self.server.proxy.fault_of(f"{self.command} {self.path}")
        kind = fault.kind if fault else ""
        if fault is not None and kind == "hang":
            fault.over.wait()
            if fault.late:
                self._ask(content)
            return self._reset()
        if fault is not None and kind == "status":
            return self._answer(int(fault.value), [("Content-Type", "application/json")], b"{}")
        if fault is not None and kind == "latency":
            time.sleep(fault.value)
        try:
            status, headers, body = self._ask(content)
        except OSError:
            return self._reset()
        if kind == "reset":
            return self._reset()
        return self._answer(status, headers, body, body[: len(body) // 2] if kind == "truncate" else None)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ask(self, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the server says to this request."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            upstream.request(self.command, self.path, content, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, part: bytes | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if part is None else part)
        if part is not None:
            self.close_connection = True

    def _reset(self) -> None:
        """Close the connection as a machine does that has lost it."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
