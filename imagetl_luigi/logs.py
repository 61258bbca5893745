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


class _Message(logging.Filter):
    """Puts the message of an ImagetlError, or of an error of somebody else's that has a remedy, in the place of its
    traceback; all else passes as it is.
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
        elif record.exc_info == (None, None, None):  # a traceback was asked for where there was none
            record.exc_info = None
        elif isinstance(record.msg, str):  # errors in complete() come as text
            record.msg = without_traceback(record.msg)
        return True


def without_traceback(text: str) -> str:
    """The text without the traceback of an error of ours."""
    return _OURS.sub("", text)


def explain(error: BaseException) -> str:
    """The error in one line: its kind and its message."""
    return f"{type(error).__name__}: {error}"


def install(remedies: Mapping[type[BaseException], str]) -> None:
    """Let Luigi's logger show our errors so, and those named here with what to do; a second call changes nothing."""
    if not any(isinstance(known, _Message) for known in logger.filters):
        logger.addFilter(_Message(remedies))
