"""A real HTTP server for tests: it serves files by the book, except where a request is to meet faults.

    url = server.put("/a.img", body, etag='"1"')
    server.once(cut(1000))                     # the next answer breaks off after 1,000 bytes of the body,
    server.once(status(503, retry_after="1"))  # the one after it is none,
    server.once(chunked, cut(50))              # faults of one answer come one after the other
    server.always(silent)                      # and all others never come
    server.requests[1].headers["Range"]        # what was asked for

A fault is a function that changes a Response before it is sent. Those that break off or wait wrap its
`pieces`, so `cut(50), chunked` counts bytes of the body, and `chunked, cut(50)` those on the wire.
"""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import quote, unquote


@dataclass(frozen=True)
class File:
    """What is served under a path, by a name for this version of it."""

    body: bytes
    headers: dict[str, str]

    @property
    def validators(self) -> list[str]:
        """What If-Range may hold."""
        names = [self.headers[name] for name in ("ETag", "Last-Modified") if name in self.headers]
        return [name for name in names if not name.startswith("W/")]

    def is_known(self, asked: Message) -> bool:
        """Whether the one who asks has this version already (RFC 9110, 13.1.2 and 13.1.3)."""
        etag, since = asked.get("If-None-Match"), asked.get("If-Modified-Since")
        if etag is not None:
            return etag.removeprefix("W/") == self.headers.get("ETag", "").removeprefix("W/")
        return since is not None and since == self.headers.get("Last-Modified")


@dataclass
class Request:
    """What was asked for, with the body of a POST; `sent` are the bytes after the headers of the answer."""

    path: str
    headers: Message
    body: bytes = b""
    at: float = field(default_factory=time.monotonic)
    sent: int = 0


class Response:
    """What is about to be sent."""

    def __init__(self, server: Server, request: Request, file: File) -> None:
        self.server = server
        self.request = request
        self.file = file
        self.headers: dict[str, str] = {}
        self.give(HTTPStatus.OK, file.body, file.headers)

    def give(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send this."""
        self.status = status
        self.body = body
        self.headers = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body))} | headers
        self.pieces: Iterable[bytes] = [body]


Fault = Callable[[Response], None]


class _HangUp(Exception):
    """The connection is to be closed here."""


def status(code: int, **headers: str) -> Fault:
    """Answer with this status and a word of text; `retry_after="1"` is the header Retry-After."""

    def fault(response: Response) -> None:
        response.give(code, b"no", {name.replace("_", "-").title(): value for name, value in headers.items()})

    return fault


def redirect(url: str, code: int = 302) -> Fault:
    """Send the client elsewhere."""
    return status(code, location=url)


def header(name: str, value: str | None) -> Fault:
    """Send this header, or with None do not."""

    def fault(response: Response) -> None:
        response.headers.pop(name, None)
        if value is not None:
            response.headers[name] = value

    return fault


def cut(at: int) -> Fault:
    """Close the connection after so many bytes."""
    return _after(at, lambda _: None)


def hold(at: int) -> Fault:
    """Send nothing after so many bytes, and close the connection when the server ends."""
    return _after(at, lambda server: server.ending.wait())


def pause(at: int, until: threading.Event) -> Fault:
    """Send nothing after so many bytes, until that happens, and then the rest."""

    def pieces(response: Response, whole: Iterable[bytes]) -> Iterator[bytes]:
        body = b"".join(whole)
        yield body[:at]
        while not until.wait(0.02):
            if response.server.ending.is_set():
                raise _HangUp
        yield body[at:]

    return _wrap(pieces)


def silent(response: Response) -> None:
    """Never answer."""
    response.server.ending.wait()
    raise _HangUp


def drip(pause: float) -> Fault:
    """Send byte by byte, with a pause after each."""

    def pieces(response: Response, whole: Iterable[bytes]) -> Iterator[bytes]:
        for byte in b"".join(whole):
            yield bytes([byte])
            if response.server.ending.wait(pause):
                raise _HangUp

    return _wrap(pieces)


def chunked(response: Response) -> None:
    """Send the body in chunks, without its length (RFC 9112, 7.1)."""

    def pieces(_: Response, whole: Iterable[bytes]) -> Iterator[bytes]:
        for piece in filter(None, whole):
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"

    header("Content-Length", None)(response)
    header("Transfer-Encoding", "chunked")(response)
    _wrap(pieces)(response)


def gzipped(response: Response) -> None:
    """Compress the body though nobody asked for it."""
    headers = {name: value for name, value in response.headers.items() if name != "Content-Length"}
    response.give(response.status, gzip.compress(response.body), headers | {"Content-Encoding": "gzip"})


def ignore_range(response: Response) -> None:
    """Answer 200 with the whole file, whatever range was asked for."""
    response.give(HTTPStatus.OK, response.file.body, response.file.headers)


def ignore_if_range(response: Response) -> None:
    """Answer with the range that was asked for, whatever version it is to be of."""
    asked = re.fullmatch(r"bytes=(\d+)-", response.request.headers.get("Range", ""))
    if not asked:
        return
    start, body = int(asked[1]), response.file.body
    if start >= len(body):
        response.give(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", {"Content-Range": f"bytes */{len(body)}"})
        return
    shown = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
    response.give(HTTPStatus.PARTIAL_CONTENT, body[start:], response.file.headers | shown)


def _after(at: int, then: Callable[[Server], object]) -> Fault:
    def pieces(response: Response, whole: Iterable[bytes]) -> Iterator[bytes]:
        left = at
        for piece in whole:
            yield piece[:left]
            left -= len(piece[:left])
            if not left:
                then(response.server)
                raise _HangUp

    return _wrap(pieces)


def _wrap(pieces: Callable[[Response, Iterable[bytes]], Iterator[bytes]]) -> Fault:
    def fault(response: Response) -> None:
        response.pieces = pieces(response, response.pieces)

    return fault


@dataclass
class Server:
    """Serves files on a port of 127.0.0.1, from entering its `with` block to leaving it.

    Attributes:
        at: the port that it is to listen on; 0 is any.
        requests: all that came in so far, in order.
        ending: set when the server ends.
    """

    at: int = 0
    requests: list[Request] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    _files: dict[str, File] = field(default_factory=dict)
    _once: deque[tuple[Fault, ...]] = field(default_factory=deque)
    _always: tuple[Fault, ...] = ()

    def put(
        self, path: str, body: bytes, *, etag: str | None = None, last_modified: str | None = None, **headers: str
    ) -> str:
        """Serve `body` under `path`, instead of what was there before; return its URL."""
        named = {"ETag": etag, "Last-Modified": last_modified, **headers}
        self._files[path] = File(body, {name: value for name, value in named.items() if value is not None})
        return self.url(path)

    def url(self, path: str = "") -> str:
        """The URL of a path."""
        return f"http://127.0.0.1:{self.port}{quote(path)}"

    def once(self, *faults: Fault) -> None:
        """Let the next request that has no faults yet meet these."""
        self._once.append(faults)

    def always(self, *faults: Fault) -> None:
        """Let all requests meet these for which there is no `once`."""
        self._always = faults

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._http.server_address[1])

    def __enter__(self) -> Self:
        self._http = _HTTPServer(("127.0.0.1", self.at), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.005,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def respond(self, request: Request) -> Response:
        """The answer, with its faults."""
        self.requests.append(request)
        path = unquote(request.path.partition("?")[0])
        response = Response(self, request, self._files.get(path) or File(b"", {}))
        if path not in self._files:
            status(HTTPStatus.NOT_FOUND)(response)
        elif response.file.is_known(request.headers):
            response.give(HTTPStatus.NOT_MODIFIED, b"", response.file.headers)
        elif request.headers.get("If-Range") in (None, *response.file.validators):
            ignore_if_range(response)
        for fault in self._once.popleft() if self._once else self._always:
            fault(response)
        return response


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    owner: Server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def do_GET(self) -> None:
        self.close_connection = True
        request = Request(self.path, self.headers, self.rfile.read(int(self.headers.get("Content-Length", 0))))
        try:
            self._send(request, self.server.owner.respond(request))
        except (_HangUp, ConnectionError):
            return

    def do_POST(self) -> None:
        self.do_GET()  # answered as if the file had been asked for

    def _send(self, request: Request, response: Response) -> None:
        self.send_response_only(response.status)
        for name, value in (response.headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()
        for piece in response.pieces:
            request.sent += len(piece)  # first, so that whoever has the answer finds it counted
            self.wfile.write(piece)
