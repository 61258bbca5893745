"""Tell people how a run ended: by mail through Luigi, and with a POST to a webhook. See [messages].

No message can fail a run or hold it up for long: what goes wrong is a line in the log.
"""

from __future__ import annotations

import contextlib
import html
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from luigi import notifications

from imagetl_luigi import config, report
from imagetl_luigi.logs import logger
from imagetl_luigi.report import Report
from imagetl_luigi.run_end import Run
from imagetl_luigi.settings import MessageSettings

MAIL_PATIENCE = 60.0
"""Seconds for a mail in all: a dozen questions and answers, each of which [smtp] timeout bounds."""


def tell(run: Run) -> None:
    """Send what the settings ask for; log in any case which of several streams failed, and what was not run."""
    summary = report.summarise(run)
    if summary is None:
        return
    for text in filter(None, (summary.failed_streams, summary.not_run)):
        logger.warning("%s", text)
    settings = config.messages.read().settings()
    receiver = notifications.email().receiver
    well = summary.state in (report.DONE, report.NOTHING)
    if (well and settings.when == "failure") or not (settings.webhook or receiver):
        return
    summary = report.count_frames(summary)
    if settings.webhook:
        _post(summary, settings)
    if receiver:
        _mail(summary, receiver)


def _mail(summary: Report, receiver: str) -> None:
    """Have Luigi send a mail: it logs that a server does not answer within [smtp] timeout, and raises nothing then."""
    settings = notifications.email()
    text = f"<pre>{html.escape(summary.text)}</pre>" if settings.format == "html" else summary.text

    def send() -> str:
        with warnings.catch_warnings():
            # Luigi's, of its own defaults
            warnings.filterwarnings("ignore", r"Parameter .* is not of type string", UserWarning)
            notifications.send_email(summary.headline, text, settings.sender, [receiver])
        return ""

    trouble = _within(MAIL_PATIENCE, send, f"its server did not take it within {MAIL_PATIENCE:g} s")
    if trouble:
        logger.warning("the mail to %s was not sent: %s", receiver, trouble)


def content(summary: Report) -> dict[str, Any]:
    """What is posted. In the text &, < and > are escaped as chats ask, which else read commands there, <!channel> being
    one (https://api.slack.com/reference/surfaces/formatting#escaping). All else is as it is.
    """
    return {
        "text": html.escape(summary.text, quote=False),
        "state": summary.state,
        "seconds": round(summary.seconds, 1),
        "frames": summary.frames,
        "animations": [
            {name: value for name, value in asdict(animation).items() if name != "manifest"}
            for animation in summary.animations
        ],
        "errors": [{"task": error.task or error.kind, "message": error.message} for error in summary.errors],
        "more_errors": summary.more_errors,
    }


def _within(seconds: float, work: Callable[[], str], late: str) -> str:
    """What `work` says is wrong, or `late` if it takes longer. It runs in a thread that nobody waits for then: the
    time-outs of sockets hold neither for a resolver nor for an answer that drips.
    """
    done: Future[str] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:
            done.set_result(_reason(error))

    threading.Thread(target=run, name="message", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        return late


def _post(summary: Report, settings: MessageSettings) -> None:
    late = f"it did not answer within [messages] timeout = {settings.timeout:g} s"
    trouble = _within(settings.timeout, lambda: _answer(settings, content(summary)), late)
    if trouble:
        logger.warning("the webhook of [messages] did not take the message: %s", trouble)


def _answer(settings: MessageSettings, message: dict[str, Any]) -> str:
    """Post the message; what is wrong with the answer, or nothing. A redirect is not followed: who knows where to."""
    import requests  # not needed without a webhook

    patience = 2 * settings.timeout  # who waits for us is less patient, and says why
    with (
        _unheard(),
        requests.post(settings.webhook, json=message, timeout=patience, allow_redirects=False, stream=True) as response,
    ):
        status = response.status_code
    if 300 <= status < 400:
        return f"it answered {status}, a redirect; give the URL that it leads to"
    return "" if 200 <= status < 300 else f"it answered {status}"


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Keep urllib3 from logging: its lines have the path of the URL, which is the secret."""
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "urllib3"]

    def nothing(record: logging.LogRecord) -> bool:
        return False

    for name in known:
        logging.getLogger(name).addFilter(nothing)
    try:
        yield
    finally:
        for name in known:
            logging.getLogger(name).removeFilter(nothing)


def _reason(error: BaseException) -> str:
    """What the system says of a connection. The texts of libraries repeat the URL, or what the server made of it."""
    from requests import RequestException

    while inner := error.__cause__ or error.__context__:
        error = inner
    said = str(error) if isinstance(error, OSError) and not isinstance(error, RequestException) else ""
    return report.one_line(said or type(error).__name__)
