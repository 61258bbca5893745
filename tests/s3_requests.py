"""The requests that this process makes of an S3 server, seen just before they are sent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.endpoint import AioEndpoint


@contextlib.contextmanager
def before_each(act: Callable[[str], None]) -> Iterator[None]:
    """Call `act` with each request, as "PUT /bucket/key?partNumber=1", in the thread of fsspec's event loop."""
    send = AioEndpoint._send

    async def seen(self: AioEndpoint, request: Any) -> Any:
        parts = urlsplit(request.url)
        act(f"{request.method} {parts.path}" + (f"?{parts.query}" if parts.query else ""))
        return await send(self, request)

    AioEndpoint._send = seen
    try:
        yield
    finally:
        AioEndpoint._send = send


@contextlib.contextmanager
def listed() -> Iterator[list[str]]:
    """All requests made in the block."""
    requests: list[str] = []
    with before_each(requests.append):
        yield requests
