"""The sections [download], [dask], [limits] and [messages] of luigi.cfg, turned into frozen settings.

Every option can also be given for one run: `luigi … CombineGif --dask-scheduler cluster`.
The classes are named as their sections are, in lower case, because Luigi takes the one from the other.
"""

from __future__ import annotations

import configparser
import os
from urllib.parse import urlsplit

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterVisibility

from imagetl_luigi.errors import ParameterError
from imagetl_luigi.parameters import NumberParameter, WholeNumberParameter
from imagetl_luigi.settings import DaskSettings, DownloadSettings, Limits, MessageSettings

luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}
"""What luigi.cfg says of these, Luigi does, and would warn at each run that nobody does."""


class download(luigi.Config):
    """[download]: how patient the download is."""

    retries = WholeNumberParameter(default=DownloadSettings.retries, description="tries after the first one")
    retry_wait = NumberParameter(
        default=DownloadSettings.retry_wait,
        description="seconds between tries, unless the server's Retry-After says more",
    )
    connect_timeout = NumberParameter(
        default=DownloadSettings.connect_timeout, description="seconds for a connection to be made"
    )
    read_timeout = NumberParameter(
        default=DownloadSettings.read_timeout, description="seconds in which some bytes must arrive"
    )
    total_timeout = NumberParameter(
        default=DownloadSettings.total_timeout, description="seconds for the whole download, its retries included"
    )

    def settings(self) -> DownloadSettings:
        """The section as a frozen record.

        Raises:
            ParameterError: an option is negative, or a time-out is zero.
        """
        _at_least("download", "retries", self.retries, 0)
        _at_least("download", "retry_wait", self.retry_wait, 0)
        for name in ("connect_timeout", "read_timeout", "total_timeout"):
            _at_least("download", name, getattr(self, name), 0.001)
        return DownloadSettings(**self.param_kwargs)


class dask(luigi.Config):
    """[dask]: where and how DaskWorker runs tasks."""

    scheduler = luigi.Parameter(
        default=DaskSettings.scheduler,
        description="'threads' (in this process), 'cluster' (worker processes on this machine), "
        "or the address of a running Dask scheduler such as tls://10.0.0.1:8786",
    )
    threads = WholeNumberParameter(
        default=DaskSettings.threads, description="threads of the 'threads' scheduler; 0: one for each CPU"
    )
    cluster_workers = WholeNumberParameter(
        default=DaskSettings.cluster_workers, description="processes of the 'cluster' scheduler"
    )
    cluster_threads = WholeNumberParameter(
        default=DaskSettings.cluster_threads, description="threads in each process of the 'cluster' scheduler"
    )
    dashboard = luigi.Parameter(
        default=DaskSettings.dashboard, description="address of the 'cluster' scheduler's dashboard"
    )
    chunk_size = WholeNumberParameter(default=DaskSettings.chunk_size, description="most tasks in one Dask message")
    at_once = WholeNumberParameter(
        default=DaskSettings.at_once,
        description="frames that each thread reads and writes at a time; 0: one, and up to 16 in an object store",
    )
    wait_for_workers = NumberParameter(
        default=DaskSettings.wait_for_workers, description="seconds to wait for a Dask worker before giving up"
    )
    tls_ca = luigi.Parameter(
        default=DaskSettings.tls_ca, description="file of the CA that a tls:// scheduler is known by"
    )
    tls_certificate = luigi.Parameter(
        default=DaskSettings.tls_certificate, description="file of the certificate that we show it"
    )
    tls_key = luigi.Parameter(default=DaskSettings.tls_key, description="file of the certificate's private key")

    def settings(self) -> DaskSettings:
        """The section as a frozen record.

        Raises:
            ParameterError: an unknown scheduler, a number below what makes sense, or a file that is not there.
        """
        if self.scheduler not in ("threads", "cluster") and "://" not in self.scheduler:
            raise ParameterError(
                f"[dask] scheduler = {self.scheduler!r} is not known. Allowed: threads, cluster, "
                "or the address of a running Dask scheduler such as tls://10.0.0.1:8786"
            )
        for name in ("threads", "at_once"):
            _at_least("dask", name, getattr(self, name), 0)
        for name in ("tls_ca", "tls_certificate", "tls_key"):
            path = getattr(self, name)
            if path and not os.path.isfile(path):
                raise ParameterError(f"[dask] {name} = {path!r} is not a file; give its path, or nothing")
        for name in ("cluster_workers", "cluster_threads", "chunk_size"):
            _at_least("dask", name, getattr(self, name), 1)
        _at_least("dask", "wait_for_workers", self.wait_for_workers, 0.001)
        return DaskSettings(**self.param_kwargs)


class limits(luigi.Config):
    """[limits]: what a stream may be at the most."""

    stream_bytes = WholeNumberParameter(default=Limits.stream_bytes, description="largest stream, in bytes")
    frame_bytes = WholeNumberParameter(default=Limits.frame_bytes, description="largest frame, in bytes")
    frame_pixels = WholeNumberParameter(default=Limits.frame_pixels, description="largest frame, width × height")
    frames = WholeNumberParameter(default=Limits.frames, description="most frames of a stream")

    def settings(self) -> Limits:
        """The section as a frozen record.

        Raises:
            ParameterError: a limit below 1.
        """
        for name, value in self.param_kwargs.items():
            _at_least("limits", name, value, 1)
        return Limits(**self.param_kwargs)


class messages(luigi.Config):
    """[messages]: what is sent when a run is over. It stays in the process that sends: see `carried`."""

    webhook = luigi.Parameter(
        default=MessageSettings.webhook,
        significant=False,
        visibility=ParameterVisibility.PRIVATE,
        description="URL that a message is posted to as JSON; it is a secret, so rather give it in luigi.cfg",
    )
    when = luigi.Parameter(
        default=MessageSettings.when,
        description="'always', or 'failure' for runs that failed or were stopped; for e-mail, too",
    )
    timeout = NumberParameter(
        default=MessageSettings.timeout, description="seconds in which the webhook must have answered"
    )

    @classmethod
    def read(cls) -> messages:
        """The section. Raises ParameterError, without the value, if luigi.cfg has one that cannot be made out."""
        try:
            return cls()
        except ValueError as error:  # Luigi's, around the reason
            reason = error.__cause__
            if not isinstance(reason, configparser.InterpolationError):
                raise
            raise ParameterError(
                f"[messages] {reason.option} of luigi.cfg cannot be read. Allowed: a text in which % is written %%, "
                "and ${NAME} for an environment variable that is set"
            ) from None

    def settings(self) -> MessageSettings:
        """The section as a frozen record.

        Raises:
            ParameterError: an unknown time to send, no time to wait, or a URL that nothing can be posted to,
                which is not repeated.
        """
        if self.when not in ("always", "failure"):
            raise ParameterError(f"[messages] when = {self.when!r} is not known. Allowed: always, failure")
        if self.webhook and not _is_web_address(self.webhook):
            raise ParameterError(
                "[messages] webhook is no URL to post to (it is not shown, being a secret). "
                "Allowed: https://…, http://…, or nothing"
            )
        _at_least("messages", "timeout", self.timeout, 0.001)
        return MessageSettings(**self.param_kwargs)


SECTIONS = (download, dask, limits, messages)


_checked: CmdlineParser | None = None
"""The command whose settings are known to be right; they do not change under way."""


def check() -> None:
    """Refuse settings that cannot be right. Raises ParameterError.

    Once for each command, since a thousand tasks ask, and it takes 2 ms.
    """
    global _checked
    command = CmdlineParser.get_instance()
    if command is not None and command is _checked:
        return
    for section in (download(), dask(), limits(), messages.read()):
        section.settings()
    _checked = command


def carried() -> dict[str, dict[str, str]]:
    """All settings of this process as text, by section and name, wherever they come from."""
    return {section.__name__: section().to_str_params() for section in (download, dask, limits)}


def take_over(settings: dict[str, dict[str, str]]) -> None:
    """Make what `carried` returned in another process the settings of this one."""
    for section, options in settings.items():
        for name, text in options.items():
            luigi.configuration.get_config().set(section, name, text)


def _at_least(section: str, name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ParameterError(f"[{section}] {name} = {value} is too small. Allowed: {least} or more")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port  # raises if it is none
    except ValueError:
        return False
    printable = url.isprintable() and " " not in url and "\\" not in url
    return printable and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
