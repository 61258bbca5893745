"""dask_connect: schedulers in the open and over TLS, clusters that scale up, and workers that do not fit."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import distributed
import luigi
import psutil
import pytest
import trustme
from conftest import missing
from dask_processes import TASKS, Dask, process
from dask_tasks import KillOnce, Note, Slow
from pictures import encode, noise
from server import Server
from test_dask_worker import notes, runs
from waiting import until
from workflow import command, stream

import imagetl_luigi
from imagetl_luigi.dask_worker import DaskWorker
from imagetl_luigi.errors import DaskWorkerError, ImagetlError, ParameterError
from imagetl_luigi.settings import DaskSettings

PATIENCE = 2.0
"""Seconds in which what can answer does. A refusal takes no longer, whatever the machine."""


@dataclass(frozen=True)
class Files:
    """A CA, a certificate, and the key of that."""

    ca: str
    certificate: str
    key: str

    def settings(self) -> dict[str, str]:
        return {"tls_ca": self.ca, "tls_certificate": self.certificate, "tls_key": self.key}

    def of_dask(self) -> list[str]:
        """Options of `dask scheduler` and `dask worker`."""
        return [f"--tls-ca-file={self.ca}", f"--tls-cert={self.certificate}", f"--tls-key={self.key}"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """Files by what is the matter with them."""
    folder = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificates = {
        "good": (ca, ca.issue_cert("127.0.0.1")),
        "second": (ca, ca.issue_cert("127.0.0.1")),
        "expired": (ca, ca.issue_cert("127.0.0.1", not_after=long_ago)),
        "other": (other, other.issue_cert("127.0.0.1")),
    }
    found = {}
    for name, (authority, certificate) in certificates.items():
        found[name] = Files(*(str(folder / f"{name}-{part}.pem") for part in ("ca", "certificate", "key")))
        authority.cert_pem.write_to_path(found[name].ca)
        certificate.cert_chain_pems[0].write_to_path(found[name].certificate)
        certificate.private_key_pem.write_to_path(found[name].key)
    return found


@pytest.fixture(scope="module")
def secure(files: dict[str, Files], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler and a worker that speak TLS."""
    with contextlib.ExitStack() as stack:
        dask = Dask(stack, tmp_path_factory.mktemp("dask"), "--protocol=tls", *files["good"].of_dask())
        dask.worker("--no-nanny")
        with DaskWorker(settings(dask.address, 60.0, **files["good"].settings())):
            pass  # the worker is there, and Dask has what it keeps for good
        yield dask


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    """A scheduler in the open."""
    with contextlib.ExitStack() as stack:
        yield Dask(stack, tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "log")


def settings(address: str, patience: float = PATIENCE, **options: str) -> DaskSettings:
    return DaskSettings(scheduler=address, wait_for_workers=patience, dashboard="127.0.0.1:0", **options)  # type: ignore[arg-type]


def run(settings: DaskSettings, log: str) -> None:
    """Run a few tasks, and see that they ran."""
    with DaskWorker(settings) as worker:
        assert worker.run([Note(log=log, number=number) for number in range(3)], 3) == []
    assert runs(log) == dict.fromkeys(range(3), 1)


# In the open and over TLS


@pytest.mark.slow
def test_tasks_run_over_tls(secure: Dask, files: dict[str, Files], log: str) -> None:
    assert secure.address.startswith("tls://")
    run(settings(secure.address, **files["good"].settings()), log)


def test_the_files_may_come_from_the_configuration_of_dask(secure: Dask, files: dict[str, Files], log: str) -> None:
    good = files["good"]
    names = {"CA_FILE": good.ca, "CLIENT__CERT": good.certificate, "CLIENT__KEY": good.key}
    script = (
        "from dask_tasks import Note; from imagetl_luigi.dask_worker import DaskWorker\n"
        "from imagetl_luigi.settings import DaskSettings\n"
        f"with DaskWorker(DaskSettings(scheduler={secure.address!r})) as worker:\n"
        f"    assert worker.run([Note(log={log!r}, number=1)], 1) == []\n"
    )
    environment = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": value for name, value in names.items()}
    subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": TASKS, **environment}, check=True)
    assert runs(log) == {1: 1}


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "kind", "text"),
    [
        ("other", "good", "good", DaskWorkerError, "certificate verify failed"),
        ("good", "other", "other", DaskWorkerError, "which must be of a CA that it trusts"),
        ("good", "expired", "expired", DaskWorkerError, "and not expired"),
        ("good", "good", "second", ParameterError, "cannot be used: .*key values mismatch.*the key that of the cert"),
        ("good", "good", "", ParameterError, "cannot be used: .*the key that of the certificate"),
        ("good", "", "", ParameterError, "needs certificates: give tls_ca, tls_certificate and tls_key"),
        ("", "", "", ParameterError, "needs certificates: give tls_ca, tls_certificate and tls_key"),
    ],
)
def test_files_that_do_not_fit_are_an_error_that_says_so(
    secure: Dask, files: dict[str, Files], ca: str, certificate: str, key: str, kind: type[ImagetlError], text: str
) -> None:
    given = {
        "tls_ca": files[ca].ca if ca else "",
        "tls_certificate": files[certificate].certificate if certificate else "",
        "tls_key": files[key].key if key else "",
    }
    with pytest.raises(ImagetlError, match=text) as error:
        DaskWorker(settings(secure.address, **given)).__enter__()
    assert type(error.value) is kind
    assert secure.address in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_certificate_is_an_error_that_says_so(secure: Dask, files: dict[str, Files], tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    given = {**files["good"].settings(), "tls_ca": str(tmp_path / "no.pem")}
    with pytest.raises(ParameterError, match=r"cannot be used: .*all in PEM"):
        DaskWorker(settings(secure.address, **given)).__enter__()


def test_a_plain_address_of_a_scheduler_with_tls_is_an_error_that_says_so(secure: Dask) -> None:
    with pytest.raises(DaskWorkerError, match=r"no Dask scheduler answers at tcp://.*: write tls:// if it has TLS"):
        DaskWorker(settings(secure.address.replace("tls:", "tcp:"))).__enter__()


@pytest.mark.slow
def test_a_tls_address_of_a_plain_scheduler_is_an_error_that_says_so(dask: Dask, files: dict[str, Files]) -> None:
    with pytest.raises(DaskWorkerError, match=r"no Dask scheduler answers at tls://.*: write tcp:// if it has no TLS"):
        DaskWorker(settings(dask.address.replace("tcp:", "tls:"), **files["good"].settings())).__enter__()


@pytest.mark.slow
def test_files_for_tls_and_an_address_without_are_not_taken_for_a_link_in_the_open(
    dask: Dask, files: dict[str, Files]
) -> None:
    with pytest.raises(DaskWorkerError, match=r"encryption required .*: write tls:// if it has TLS"):
        DaskWorker(settings(dask.address, **files["good"].settings())).__enter__()


@pytest.mark.slow
def test_a_cluster_of_this_machine_leaves_the_files_of_another_alone(files: dict[str, Files], log: str) -> None:
    run(settings("cluster", 60.0, **files["good"].settings()), log)


@pytest.mark.slow
def test_the_command_ends_with_one_message_and_an_exit_code(
    secure: Dask, files: dict[str, Files], server: Server, tmp_path: Path
) -> None:
    def combine(name: str) -> subprocess.CompletedProcess[str]:
        tls = [f"--dask-{key.replace('_', '-')}={value}" for key, value in files[name].settings().items()]
        options = ["--local-scheduler", "--url", url, "--workspace", "w", f"--dask-scheduler={secure.address}", *tls]
        return command("CombineGif", *options, "--scheduler-retry-count", "1", folder=tmp_path)

    url = server.put("/a", stream([encode(noise(seed=seed), "PNG") for seed in range(3)]))
    failed = combine("other")
    assert failed.returncode == 30
    assert "Traceback" not in failed.stderr
    assert failed.stderr.count("DaskWorkerError: no Dask scheduler answers at ") == 1
    done = combine("good")
    assert done.returncode == 0, done.stderr
    assert "is open" not in done.stderr
    assert (tmp_path / "w/clip.gif").exists()


@pytest.fixture
def own_address() -> str:
    """An address of this machine that is not its loopback's."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == 2 and not address.address.startswith("127."):
                return address.address
    missing("this machine has no address but its loopback's")
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(("beyond", "warnings"), [(True, 1), (False, 0)])
def test_a_link_in_the_open_beyond_this_machine_is_warned_of_once_a_run(
    beyond: bool, warnings: int, own_address: str, server: Server, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        dask = Dask(stack, tmp_path, host=own_address if beyond else "127.0.0.1")
        dask.worker("--no-nanny")
        url = server.put("/a", stream([encode(noise(seed=seed), "PNG") for seed in range(3)]))
        options = ["--local-scheduler", "--url", url, "--workspace", "w", f"--dask-scheduler={dask.address}"]
        done = command("CombineGif", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "is open" in line]
    assert len(lines) == warnings
    assert all("WARNING" in line and dask.address in line and "see TLS in the README" in line for line in lines)


# Clusters that scale up


@contextlib.contextmanager
def adaptive(folder: Path, most: int) -> Iterator[str]:
    """The address of a cluster without workers, which starts up to so many when there is work."""
    place = folder / "address"
    with process("adaptive_cluster", str(place), str(most)) as running:
        until(place.exists)
        yield place.read_text()
        assert running.poll() is None


@pytest.mark.slow
def test_a_cluster_without_a_worker_scales_up_when_there_is_work(tmp_path: Path, log: str) -> None:
    with (
        adaptive(tmp_path, 3) as address,
        DaskWorker(DaskSettings(scheduler=address, wait_for_workers=60, chunk_size=4)) as worker,
    ):
        assert worker.run((Slow(log=log, number=number) for number in range(600)), 600) == []
        assert runs(log) == dict.fromkeys(range(600), 1)
        assert len({process for _, process in notes(log)}) > 1, "more than one worker"
        until(lambda: worker._backend._workers() == {}, 60)  # type: ignore[attr-defined]
        assert worker.run([Note(log=log, number=2000)], 1) == [], "it was down to none, and came up again"


@pytest.mark.slow
def test_a_cluster_that_never_scales_up_is_an_error(tmp_path: Path) -> None:
    with adaptive(tmp_path, 0) as address, pytest.raises(DaskWorkerError, match=r"has had no worker for 2 s"):
        DaskWorker(settings(address)).__enter__()


# Workers that do not fit


def hiding(folder: Path, *modules: str) -> str:
    """A path for Python on which these modules are not to be found."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"""
import sys
class Nowhere:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Nowhere())
""")
    return str(folder)


def with_another(folder: Path, package: str, file: str, version: str) -> str:
    """A path for Python on which a package is of another version."""
    module = {"imagetl_luigi": imagetl_luigi, "luigi": luigi}[package]
    assert module.__file__
    shutil.copytree(Path(module.__file__).parent, folder / package)
    source = folder / package / file
    source.write_text(
        source.read_text()
        .replace(f'"{module.__version__}"', f'"{version}"')
        .replace(f"'{module.__version__}'", f"'{version}'")
    )
    return str(folder)


MISFITS: dict[str, tuple[Callable[[Path], str], str]] = {
    "without the package": (
        lambda folder: hiding(folder, "imagetl_luigi"),
        rf".*No module named 'imagetl_luigi'.*; install imagetl_luigi {imagetl_luigi.__version__} with all it needs",
    ),
    "without luigi": (
        lambda folder: hiding(folder, "luigi"),
        r".*No module named 'luigi'.*; install imagetl_luigi .* with all it needs there",
    ),
    "of another version": (
        lambda folder: with_another(folder, "imagetl_luigi", "__init__.py", "0.0.9"),
        rf"it has imagetl_luigi 0.0.9, and here is imagetl_luigi {imagetl_luigi.__version__}; install the same there",
    ),
    "with another luigi": (
        lambda folder: with_another(folder, "luigi", "__version__.py", "3.0.0"),
        rf"it has luigi 3.0.0, and here is luigi {luigi.__version__}; install the same there",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("misfit", MISFITS)
def test_one_worker_among_others_that_does_not_fit_is_named_before_any_task_runs(
    misfit: str, dask: Dask, tmp_path: Path, log: str
) -> None:
    make, message = MISFITS[misfit]
    dask.worker("--no-nanny")
    path = f"{make(tmp_path / 'path')}:{TASKS}"
    dask.worker("--no-nanny", "--name=misfit", path=path, PYTHONSAFEPATH="1")  # the folder it starts in is not on it
    until(lambda: dask.log.read_text().count("Registered to:") == 2)
    with pytest.raises(DaskWorkerError, match=f"the Dask worker .* cannot be used: {message}") as error:
        DaskWorker(settings(dask.address, 20.0)).__enter__()
    assert str(error.value).split()[3] == address_of(dask, "misfit")


def address_of(dask: Dask, name: str) -> str:
    """Address of the worker of that name, as the scheduler tells it."""
    import distributed

    with distributed.Client(dask.address, set_as_default=False) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    return next(address for address, worker in workers.items() if worker["name"] == name)


def check_nothing() -> None:
    """A check that every worker passes."""


@pytest.mark.slow
def test_a_worker_that_does_not_answer_is_named(dask: Dask) -> None:
    dask.worker("--no-nanny")
    stopped = dask.worker("--no-nanny", "--name=stopped")
    until(lambda: dask.log.read_text().count("Registered to:") == 2)
    name = address_of(dask, "stopped")
    with DaskWorker(settings(dask.address, 60.0), check=check_nothing):
        pass  # now the other one has imported all it needs
    stopped.send_signal(signal.SIGSTOP)
    with pytest.raises(DaskWorkerError, match=f"the Dask worker {name} cannot be used: it does not answer within 5 s"):
        DaskWorker(settings(dask.address, 5.0), check=check_nothing).__enter__()


@pytest.mark.slow
def test_a_worker_that_joins_later_and_does_not_fit_is_an_error(dask: Dask, tmp_path: Path, log: str) -> None:
    dask.worker("--no-nanny")
    path = f"{hiding(tmp_path / 'path', 'luigi')}:{TASKS}"

    def tasks() -> Iterator[Note]:
        yield Note(log=log, number=0)
        dask.worker("--no-nanny", path=path, PYTHONSAFEPATH="1")
        for number in range(1, 100_000):  # as long as it takes to join
            yield Slow(log=log, number=number)

    with (
        DaskWorker(settings(dask.address, 20.0, chunk_size=4)) as worker,
        pytest.raises(DaskWorkerError, match=r"install (the package of dask_tasks there|imagetl_luigi|the same there)"),
    ):
        worker.run(tasks(), 100_000)


@pytest.mark.slow
def test_a_worker_that_comes_back_at_its_address_is_looked_at_again(dask: Dask, log: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--no-nanny", f"--worker-port={port}")
    first = dask.worker(*options)
    with DaskWorker(settings(dask.address, 20.0), check=Note(log=log, number=-1).run) as worker:
        assert runs(log) == {-1: 1}
        first.kill()
        first.wait()
        until(lambda: not worker._backend._workers())  # type: ignore[attr-defined]
        dask.worker(*options)
        assert worker.run([Note(log=log, number=number) for number in range(10)], 10) == []
    assert runs(log)[-1] == 2


@pytest.mark.slow
def test_the_scheduler_needs_neither_our_package_nor_that_of_the_tasks(tmp_path: Path, log: str) -> None:
    with contextlib.ExitStack() as stack:
        path = hiding(tmp_path / "path", "imagetl_luigi", "luigi", "dask_tasks")
        dask = Dask(stack, tmp_path, PYTHONPATH=path)
        dask.worker("--no-nanny")
        run(settings(dask.address, 20.0), log)


@pytest.mark.slow
def test_a_worker_that_dies_meanwhile_is_not_to_blame(dask: Dask, tmp_path: Path, log: str) -> None:
    for _ in range(2):
        dask.worker("--no-nanny")
    until(lambda: dask.log.read_text().count("Registered to:") == 2)
    check = KillOnce(log=str(tmp_path / "check"), number=0).run
    with DaskWorker(settings(dask.address, 20.0), check=check) as worker:
        assert worker.run([Note(log=log, number=number) for number in range(10)], 10) == []
    assert runs(log) == dict.fromkeys(range(10), 1)


@pytest.mark.slow
def test_workers_have_no_profiler_where_python_may_lock_up_over_it(dask: Dask) -> None:
    dask.worker("--no-nanny")
    with DaskWorker(settings(dask.address, 20.0)), distributed.Client(dask.address, set_as_default=False) as client:
        profiled = client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks)
    assert list(profiled.values()) == [sys.version_info[:2] != (3, 11)]
