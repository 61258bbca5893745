"""Show the errors that are meant for people as a message, and not as a traceback."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from imagetl_luigi.errors import ImagetlError

logger = logging.getLogger("luigi-interface")
"""Luigi's own logger, so that our lines look like Luigi's and obey the same settings."""


_OURS = re.compile(r"Traceback \(most recent call last\):\n(?:.*\n)*?imagetl_luigi\.errors\.(?=\w+: .*\n?\Z)")
"""A traceback in a text, up to the name of an error of ours that ends it."""


_PASSWORD = re.compile(r"(?<=://)[^/@:\s]*:[^/@\s]*@")
"""User and password in a URL, such as that of a luigid behind a proxy."""


class _Message(logging.Filter):
    """Puts the message of an ImagetlError, or of an error of somebody else's that has a remedy, in the place of its
    traceback, and keeps passwords of URLs out; all else passes as it is.
    """

    def __init__(self, remedies: Mapping[type[BaseException], str]) -> None:
        super().__init__()
        self._remedies = remedies

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; let every one pass."""
        error = record.exc_info[1] if record.exc_info else None
        while error is not None and not isinstance(error, (ImagetlError, *self._remedies)):
            error = error.__cause__  # Luigi wraps what a parameter raises
        if error is not None:
            remedy = self._remedies.get(type(error))
            record.msg, record.args = f"{record.getMessage()}\n{explain(error)}{f'; {remedy}' if remedy else ''}", ()
            record.exc_info = record.exc_text = None
        if record.exc_info == (None, None, None):  # a traceback was asked for where there was none
            record.exc_info = None
        if isinstance(record.msg, str):  # errors in complete() come as text
            record.msg = without_passwords(without_traceback(record.msg))
            if isinstance(record.args, tuple):
                record.args = tuple(without_passwords(one) if isinstance(one, str) else one for one in record.args)
        return True


def without_traceback(text: str) -> str:
    """The text without the traceback of an error of ours."""
    return _OURS.sub("", text)


def without_passwords(text: str) -> str:
    """The text without users and passwords in URLs.

    >>> without_passwords("cannot reach https://me:pw@luigi.example.org/")
    'cannot reach https://luigi.example.org/'
    """
    return _PASSWORD.sub("", text)


def explain(error: BaseException) -> str:
    """The error in one line: its kind and its message."""
    return without_passwords(f"{type(error).__name__}: {error}")


def install(remedies: Mapping[type[BaseException], str]) -> None:
    """Let Luigi's logger show our errors so, and those named here with what to do; a second call changes nothing."""
    if not any(isinstance(known, _Message) for known in logger.filters):
        logger.addFilter(_Message(remedies))
