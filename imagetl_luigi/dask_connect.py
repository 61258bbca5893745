"""Reach a Dask scheduler, in the open or over TLS, and see whether its workers can do the work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import re
import sys
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any

import distributed
from distributed.comm.core import CommClosedError
from distributed.comm.core import connect as open_comm
from distributed.protocol.pickle import dumps, loads
from distributed.utils import LoopRunner

from imagetl_luigi.errors import DaskWorkerError, ImagetlError, ParameterError
from imagetl_luigi.settings import DaskSettings

logger = logging.getLogger("luigi-interface")

_LOOPBACK = re.compile(r"://(127\.[\d.]+|localhost|\[?::1\]?)(:|$)")
_SAME = ("imagetl_luigi", "luigi", "dask", "distributed")
"""Packages that must be of the same version wherever tasks run."""

_ENCRYPTED = ("tls://", "wss://")


def connect(address: str, settings: DaskSettings) -> distributed.Client:
    """A client of the scheduler at `address`.

    Raises:
        ParameterError: it is to be reached over TLS, and the files for it are missing or do not fit.
        DaskWorkerError: none answers there within `wait_for_workers` seconds, or it cannot be trusted.
    """
    patience = settings.wait_for_workers
    security = _security(address, settings)
    if not address.startswith((*_ENCRYPTED, "inproc://")):
        _warn_of_open_link(address)
    try:
        LoopRunner().run_sync(_knock, address, security, patience, callback_timeout=patience)
        return distributed.Client(address, timeout=patience, security=security, set_as_default=False)
    except Exception as error:  # for a wrong address, Dask has an exception of almost every kind
        if address.startswith(_ENCRYPTED):
            remedy = (
                "write tcp:// if it has no TLS, and look at tls_ca, which must be the CA of its certificate, and at "
                "tls_certificate, which must be of a CA that it trusts and not expired"
            )
        else:
            remedy = "write tls:// if it has TLS"
        raise DaskWorkerError(
            f"no Dask scheduler answers at {address} within {patience:g} s: {_innermost(error)}; "
            f"start one with `dask scheduler`, or correct [dask] scheduler: {remedy}"
        ) from error


def _security(address: str, settings: DaskSettings) -> distributed.Security:
    """The files of the settings, else those of Dask's own configuration."""
    if settings.scheduler == "cluster":  # a cluster of our own, to which the files of another do not belong
        return distributed.Security()
    files = {
        "tls_ca_file": settings.tls_ca,
        "tls_client_cert": settings.tls_certificate,
        "tls_client_key": settings.tls_key,
    }
    security = distributed.Security(**{name: file for name, file in files.items() if file})
    if address.startswith(_ENCRYPTED):
        needed = f"[dask] scheduler = {address!r} needs certificates"
        remedy = (
            "give tls_ca, tls_certificate and tls_key in [dask], or distributed.comm.tls in Dask's own configuration"
        )
        try:
            context = security.get_connection_args("client").get("ssl_context")
        except OSError as error:
            raise ParameterError(
                f"{needed}, and those given cannot be used: {error}; {remedy}, all in PEM and the key that of the "
                "certificate"
            ) from error
        if context is None:
            raise ParameterError(f"{needed}: {remedy}")
    return security


@cache
def _warn_of_open_link(address: str) -> None:
    """Once in a process, though every stage connects."""
    if not _LOOPBACK.search(address):
        logger.warning(
            "the link to the Dask scheduler at %s is open: whoever can reach it can read, change and run what he "
            "likes there; see TLS in the README",
            address,
        )


async def _knock(address: str, security: distributed.Security, patience: float) -> None:
    """See whether a Dask scheduler is there. A client waits for ever for a server that accepts and says nothing."""
    comm = await open_comm(address, timeout=patience, **security.get_connection_args("client"))
    await comm.close()


def threads_of_workers(client: distributed.Client, patience: float) -> dict[str, int]:
    """Threads of each worker, by address. Raises OSError if the scheduler is gone, or does not answer in time."""
    assert client.scheduler  # there from the client's start to its end
    return dict(client.sync(client.scheduler.ncores, callback_timeout=patience))


def await_worker(client: distributed.Client, patience: float) -> bool:
    """Whether there is a worker, now or within `patience` seconds.

    A task is submitted, since a cluster that scales itself starts workers only when there is something to do.

    Raises:
        DaskWorkerError: workers came and died of it.
    """
    if threads_of_workers(client, patience):
        return True
    trial = client.submit(int, key=f"await_worker-{uuid.uuid4().hex}", pure=False)
    try:
        trial.result(timeout=patience)
    except TimeoutError:
        return False
    except distributed.KilledWorker as error:
        address = client.scheduler_info()["address"]
        raise DaskWorkerError(
            f"the Dask workers at {address} die as soon as they are given work; look at their logs"
        ) from error
    finally:
        trial.release()
    return True


def inspect(
    client: distributed.Client, workers: Iterable[str], check: Callable[[], None] | None, patience: float
) -> None:
    """See that each of `workers` has what is installed here and passes `check`.

    Raises:
        DaskWorkerError: names a worker that does not, and says what to do.
    """
    packed = dumps(check)
    addresses = list(workers)

    async def ask(worker: str) -> Any:
        """How a worker introduces itself; in the client's own loop, where run() is something to wait for."""
        asked = client.run(_introduce, _versions(), packed, 0.8 * patience, workers=[worker], on_error="return")
        answer = (await asyncio.wait_for(asked, patience)).get(worker)
        if isinstance(answer, CommClosedError):
            await _see_it_leave(client, worker, patience)
        return answer

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*map(ask, addresses), return_exceptions=True)

    for worker, answer in zip(addresses, client.sync(ask_all), strict=True):
        problem = _problem(answer, patience)
        if problem and worker in threads_of_workers(client, patience):  # one that died meanwhile is not to blame
            raise DaskWorkerError(f"the Dask worker {worker} cannot be used: {problem}")


async def _see_it_leave(client: distributed.Client, worker: str, patience: float) -> None:
    """Wait until the scheduler knows that a worker is gone: it may learn a moment earlier that an answer broke off."""
    assert client.scheduler
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while worker in await client.scheduler.ncores():
                await asyncio.sleep(0.1)


async def _introduce(
    expected: dict[str, str], check: bytes, patience: float, dask_worker: distributed.Worker
) -> tuple[dict[str, str], str]:
    """In a worker: what is installed, and what the check found, if it can be made at all."""
    _stop_profiler(dask_worker)
    found = _versions()
    return found, await _try(check, patience) if found == expected else ""


async def _try(check: bytes, patience: float) -> str:
    """What is wrong here; empty if nothing is."""
    try:
        function = loads(check)
        if function is not None:
            await asyncio.wait_for(asyncio.to_thread(function), patience)
    except TimeoutError:
        return f"its check did not end within {patience:g} s; can it reach what the tasks need?"
    except ImagetlError as error:
        return str(error)
    except Exception as error:  # a check of any make may fail in any way
        return f"{type(error).__name__}: {error}"
    return ""


def _stop_profiler(worker: distributed.Worker) -> None:
    """Python 3.11 may stand still for good when one thread asks for the frames of all (python/cpython#106883).

    While tasks run, Dask's profiler does that a hundred times a second. With 3.11 Dask leaves out its other one, of
    event loops, but not this one; with it, one run of ten thousand frames in a dozen never ended.
    """
    if sys.version_info[:2] == (3, 11) and (profiler := worker.periodic_callbacks.pop("profile", None)):
        profiler.stop()


def _versions() -> dict[str, str]:
    """As the modules that run have it: what is installed may lie beside another copy, or be none of them."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python} | {name: str(import_module(name).__version__) for name in _SAME}


def _problem(answer: Any, patience: float) -> str:
    """What is wrong with a worker that introduced itself so; empty if nothing is."""
    match answer:
        case TimeoutError():
            return f"it does not answer within {patience:g} s; end it, or look at its log"
        case (dict() as found, str(problem)):
            wanted = _versions()
            wrong = [name for name in wanted if found.get(name) != wanted[name]]
            if not wrong:
                return problem
            theirs = ", ".join(f"{name} {found.get(name)}" for name in wrong)
            ours = ", ".join(f"{name} {wanted[name]}" for name in wrong)
            return f"it has {theirs}, and here is {ours}; install the same there"
        case _:  # what it could not import is told in an exception of almost any kind
            ours = _versions()["imagetl_luigi"]
            return f"{answer}; install imagetl_luigi {ours} with all it needs there, or look at its log"


def _innermost(error: BaseException) -> BaseException:
    """The error that says most: Dask wraps it in one that tells of a time-out."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
