"""The Content-Type of an object, as its name tells it: a browser shows a page only if the store says that it is one."""

from __future__ import annotations

import mimetypes
import posixpath

from imagetl_luigi.remote import GOOGLE, S3, scheme_of

_ARGUMENT = dict.fromkeys(S3, "ContentType") | dict.fromkeys(GOOGLE, "content_type")
"""What the packages behind these stores call it. Of others nothing is sure: most keep no such thing, and Azure's has
an argument in its latest versions only, of which no extra of ours asks for one."""

_TYPES = mimetypes.MimeTypes().types_map[True] | {
    **dict.fromkeys((".html", ".htm"), "text/html; charset=utf-8"),
    ".webp": "image/webp",  # Python knows it since 3.13
}
"""Python's own table: the one that `mimetypes.guess_type` uses holds the machine's /etc/mime.types as well."""


def content_type(path: str) -> str:
    """What the end of the name tells, else application/octet-stream."""
    return _TYPES.get(posixpath.splitext(path)[1].lower(), "application/octet-stream")


def typed(path: str) -> dict[str, str]:
    """The argument that gives an object its Content-Type when it is made, in stores that take it."""
    argument = _ARGUMENT.get(scheme_of(path))
    return {argument: content_type(path)} if argument else {}
