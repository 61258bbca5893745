"""luigid_guard: what a browser may ask for, and from where."""

from __future__ import annotations

import pytest
from luigi.server import app
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from imagetl_luigi.luigid_guard import _Refused, guarded, is_of_this_machine
from imagetl_luigi.luigid_state import DurableScheduler

HERE, OPEN = "127.0.0.1", "0.0.0.0"


def refused(address: str, path: str, headers: dict[str, str]) -> bool:
    """Is a request refused by a luigid that listens at the address?"""
    application = guarded(app(DurableScheduler(state_path="")), address)
    start = RequestStartLine("GET", path, "HTTP/1.1")
    request = HTTPServerRequest(headers=HTTPHeaders({"Host": "127.0.0.1:8082", **headers}), start_line=start)
    return bool(application.find_handler(request).handler_class is _Refused)


@pytest.mark.parametrize(
    ("address", "path", "headers"),
    [
        (HERE, "/api/get_work", {}),  # a worker
        (HERE, "/api/get_work", {"Host": "localhost"}),
        (HERE, "/api/get_work", {"Host": "[::1]:8082"}),
        (HERE, "/api/pause", {"Sec-Fetch-Site": "same-origin"}),  # its own page
        (HERE, "/api/pause", {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy.example"}),  # through a proxy
        (HERE, "/api/pause", {"Origin": "http://127.0.0.1:8082"}),  # in an old browser
        (HERE, "/api/task_list", {"Sec-Fetch-Site": "none"}),  # typed
        (HERE, "/history", {"Sec-Fetch-Site": "cross-site"}),  # a link
        (OPEN, "/api/get_work", {"Host": "luigi.example"}),
    ],
)
def test_workers_its_own_pages_and_links_are_answered(address: str, path: str, headers: dict[str, str]) -> None:
    assert not refused(address, path, headers)


@pytest.mark.parametrize(
    ("address", "path", "headers"),
    [
        (HERE, "/api/pause", {"Sec-Fetch-Site": "cross-site"}),
        (HERE, "/api/pause", {"Sec-Fetch-Site": "same-site"}),  # another port of this machine
        (HERE, "/api/pause", {"Origin": "https://evil.example"}),
        (HERE, "/api/pause", {"Origin": "null"}),
        (HERE, "/api/pause", {"Origin": "http://127.0.0.1:8083"}),
        (HERE, "/api/pause", {"Host": "evil.example", "Origin": "https://evil.example"}),
        (HERE, "/history", {"Host": "evil.example:8082", "Sec-Fetch-Site": "same-origin"}),  # DNS rebinding
        (HERE, "/", {"Host": "127.0.0.1.evil.example"}),
        (OPEN, "/api/pause", {"Origin": "https://evil.example"}),
    ],
)
def test_what_a_page_of_another_site_asks_for_is_refused(address: str, path: str, headers: dict[str, str]) -> None:
    assert refused(address, path, headers)


@pytest.mark.parametrize(
    ("name", "here"),
    [
        *((name, True) for name in ("localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]")),
        *((name, False) for name in ("0.0.0.0", "::", "192.0.2.1", "localhost.example", "")),
    ],
)
def test_names_of_this_machine(name: str, here: bool) -> None:
    assert is_of_this_machine(name) == here
