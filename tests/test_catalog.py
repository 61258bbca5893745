"""catalog: streams.toml, and what is said of one that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetl_luigi.catalog import Stream, parse_catalog
from imagetl_luigi.errors import ParameterError

GOOD = """
# a comment
[[stream]]
name = "harbour"
url = "https://example.org/{date}.img"

[[stream]]
name = "summit.2"
url = "s3://bucket/summit.img"
delimiter = '\\r\\n'
delay = 40
loop = 1
gif = "summit.gif"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streams.toml"


def test_streams_come_in_order_with_their_parameters(path: Path) -> None:
    path.write_text(GOOD)
    summit = {"url": "s3://bucket/summit.img", "delimiter": "\\r\\n", "delay": 40, "loop": 1, "gif": "summit.gif"}
    assert parse_catalog(path.read_bytes(), str(path)) == [
        Stream("harbour", {"url": "https://example.org/{date}.img"}),
        Stream("summit.2", summit),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no stream. Allowed: [[stream]] tables, each with a name and a url"),
        ("[[streams]]\nname = 'a'", "has 'streams'. Allowed: [[stream]]"),
        ("stream = 5", "has no stream"),
        ("stream = ['a']", "stream 1 is 'a' and no table"),
        ("[stream]\nname = 'a'\nurl = 'b'", "has no stream. Allowed: [[stream]]"),
        ("[[stream]]\nname = ", "is no TOML: Invalid value (at end of document)"),
        ("[[stream]]\nurl = 'a'", "stream 1 has no name"),
        ("[[stream]]\nname = 'a'", "stream 1 has no url"),
        ("[[stream]]\nname = 'a'\nurl = ''", "stream 1 has no url"),
        ("[[stream]]\nname = 'a'\nurl = 'a'\nfps = 5", "stream 1 has 'fps'. Allowed: name, url, delimiter, gif, delay"),
        ("[[stream]]\nname = 'a'\nurl = 'a'\nworkspace = 'w'", "stream 1 has 'workspace'"),
        (
            "[[stream]]\nname = 'a'\nurl = 'a'\ndelay = '40'",
            "delay = '40' of stream 1 is not possible; it must be a whole",
        ),
        ("[[stream]]\nname = 'a'\nurl = 'a'\nloop = true", "loop = True of stream 1 is not possible"),
        (
            "[[stream]]\nname = 'a'\nurl = ['http://me:secret@h/a']",
            "url = … of stream 1 is not possible; it must be text",
        ),
        ("[[stream]]\nname = 7\nurl = 'a'", "name = 7 of stream 1 is not possible; it must be text in quotes"),
        ("[[stream]]\nname = 'a'\nurl='b'\n[[stream]]\nname = 'A'\nurl='c'", "streams 1 and 2 are both named 'A'"),
    ],
)
def test_a_catalog_that_cannot_be_is_one_clear_error(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ParameterError) as caught:
        parse_catalog(path.read_bytes(), str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/a", "-a", "a b", "ä", "a\\u0000", "a\\n", "x" * 101, "Logs"])
def test_a_name_never_leaves_the_root(path: Path, name: str) -> None:
    path.write_text(f'[[stream]]\nname = "{name}"\nurl = "a"')
    with pytest.raises(ParameterError, match=r"is not possible\. Allowed: letters, digits"):
        parse_catalog(path.read_bytes(), str(path))


def test_a_catalog_that_is_no_text_is_a_parameter_error(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ParameterError, match="is no TOML"):
        parse_catalog(path.read_bytes(), str(path))
