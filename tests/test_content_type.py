"""content_type: what the end of a name tells, on any machine."""

from __future__ import annotations

import mimetypes

import pytest

from imagetl_luigi.content_type import content_type, typed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("INDEX.HTM", "text/html; charset=utf-8"),
        ("manifest.json", "application/json"),
        ("clip.gif", "image/gif"),
        ("a.jpg", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.png", "image/png"),
        ("a.webp", "image/webp"),
        ("a.bmp", "image/bmp"),
        ("all-images.img", "application/octet-stream"),
        ("page.html.gz", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("folder.html/file", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_the_end_of_a_name_tells_the_type(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    mimetypes.init()
    for ending in (".html", ".json", ".gif", ".webp", ".img"):
        monkeypatch.setitem(mimetypes.types_map, ending, "of/the-machine")
    assert content_type(f"s3://bucket/place/{name}") == expected


def test_only_stores_that_take_it_get_it() -> None:
    assert typed("S3://bucket/a.png") == {"ContentType": "image/png"}
    assert typed("gcs://bucket/a.png") == {"content_type": "image/png"}
    assert typed("memory://place/a.png") == typed("ftp://host/a.png") == typed("az://container/a.png") == {}
