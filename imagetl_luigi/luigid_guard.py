"""Keep web pages that a browser on this machine shows from driving luigid, which has no password.

Browsers say where a request comes from (Origin, Sec-Fetch-Site); Luigi's workers, curl and Prometheus say nothing, and
are let in. A name of somebody's that leads to this machine (DNS rebinding) is none that luigid has here.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from luigi.server import cors
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import Application, RequestHandler


def is_of_this_machine(name: str) -> bool:
    """Is this host name or address one that only programs on this machine reach?"""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"


def guarded(application: Application, address: str) -> Application:
    """Luigi's application, which now refuses such requests with 403. It will listen at the address."""
    foreign = _Foreign(only_here=is_of_this_machine(address))
    application.default_router.rules.insert(0, Rule(foreign, _Refused))
    return application


class _Foreign(Matcher):
    """Matches what another site's page asks for."""

    def __init__(self, only_here: bool) -> None:
        self._only_here = only_here
        self._others_are_allowed = cors().enabled  # by [cors] of luigi.cfg, and Luigi looks which

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Empty for one that is refused, and None for all others."""
        if self._only_here and not is_of_this_machine(request.host_name):
            return {}
        if not request.path.startswith("/api/") or self._others_are_allowed:
            return None  # a link to a page, which changes nothing, and cannot be read from elsewhere
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return None if site in ("same-origin", "none") else {}
        origin = request.headers.get("Origin")
        return None if origin is None or urlsplit(origin).netloc == request.host else {}


class _Refused(RequestHandler):
    def prepare(self) -> None:
        self.set_status(403)
        self.finish("luigid answers only its own pages, and names of this machine: localhost, 127.0.0.1 or [::1]\n")
