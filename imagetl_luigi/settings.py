"""Settings as frozen records: how a run is carried out, never what it makes.

The plain library takes them as arguments; `config` reads them from luigi.cfg.
The defaults here are the only ones, so the workflow runs as well without any luigi.cfg.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MiB = 1 << 20
GiB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a stream may be at the most, so that hostile input cannot fill the machine."""

    stream_bytes: int = 64 * GiB
    frame_bytes: int = 256 * MiB
    frame_pixels: int = 100_000_000
    frames: int = 1_000_000


@dataclass(frozen=True, kw_only=True)
class DownloadSettings:
    """How patient the download is. All times are seconds."""

    retries: int = 2
    retry_wait: float = 10.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    total_timeout: float = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class DaskSettings:
    """Where and how `DaskWorker` runs tasks.

    Attributes:
        scheduler: "threads", "cluster", or the address of a running Dask scheduler.
        threads: threads of the "threads" scheduler; 0 is one for each CPU.
        cluster_workers: worker processes of the "cluster" scheduler.
        cluster_threads: threads in each of those processes.
        dashboard: address on which the "cluster" scheduler serves Dask's dashboard.
        chunk_size: most tasks in one message.
        at_once: tasks that each thread runs at a time; 0 leaves it to who asks, as tasks differ in how long they wait.
        tls_ca, tls_certificate, tls_key: files that prove to a tls:// scheduler who we are, and the other way round;
            empty is Dask's own configuration.
        wait_for_workers: seconds to wait for a first, or for another, worker.
    """

    scheduler: str = "threads"
    threads: int = 0
    cluster_workers: int = 4
    cluster_threads: int = 1
    dashboard: str = "127.0.0.1:8787"
    chunk_size: int = 256
    at_once: int = 0
    wait_for_workers: float = 30.0
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""


@dataclass(frozen=True, kw_only=True)
class MessageSettings:
    """Who is told of a run that is over, besides those whom Luigi's own [email] names.

    Attributes:
        webhook: URL that a message is posted to; empty is none. Whoever knows it can post there, so it is never shown.
        when: "always", or "failure" for runs that failed or were stopped only; for e-mail, too.
        timeout: seconds in which the webhook must have answered.
    """

    webhook: str = field(default="", repr=False)
    when: str = "always"
    timeout: float = 10.0
