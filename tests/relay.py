"""A TCP relay between clients and a server, which counts the bytes and can be cut.

with Relay("127.0.0.1:8786") as relay:
    relay.address                    # give it to the clients
    relay.count                      # bytes that went through, both ways
    with relay.cut():                # every connection breaks, and new ones are refused
        ...
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import Self

_PIECE = 1 << 16


class Relay:
    """Listens on a port of 127.0.0.1, from entering its `with` block to leaving it.

    Args:
        target: host and port of the server.
        most: bytes a second that each connection carries, if that is to be bounded.

    Attributes:
        count: bytes that went through so far, both ways.
        connections: how many were made.
    """

    def __init__(self, target: str, most: int | None = None) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._most = most
        self.count = 0
        self.connections = 0
        self._port = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening: socket.socket

    @property
    def address(self) -> str:
        """Host and port that clients connect to."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._break()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """No way through, for the time of the block."""
        self._break()
        try:
            yield
        finally:
            self._listen()

    def _listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = self._listening.getsockname()[1]
        self._start(self._accept, self._listening)

    def _break(self) -> None:
        for connection in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()
        self._threads.clear()

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        """Carry bytes both ways until one side ends."""
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            other = {client: server, server: client}
            self._open |= other.keys()
            with contextlib.suppress(OSError):
                while self._carry_some(other):
                    pass
            self._open -= other.keys()

    def _carry_some(self, other: dict[socket.socket, socket.socket]) -> bool:
        for ready in select.select(list(other), [], [])[0]:
            data = ready.recv(_PIECE)
            if not data:
                return False
            other[ready].sendall(data)
            self.count += len(data)
            if self._most:
                threading.Event().wait(len(data) / self._most)
        return True
