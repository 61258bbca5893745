"""No secret of a store or of a URL is in any log, on luigid's page, in a manifest, a record or an object."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from dask_processes import Dask
from luigid import Luigid
from pictures import encode, noise
from s3 import KEY, READER_KEY, READER_SECRET, S3, SECRET
from server import Server, status
from waiting import until
from workflow import CONFIG, command, stream

WRONG_SECRET = "WrongSecret0123456789abcdefghijklmnopqrst"
TOKEN = "SessionToken0123456789abcdefghijklmnopqrst"
PASSWORD = "Password-of-the-source"
SIGNATURE = "5igna7ure5igna7ure"
WEBHOOK = "W3bh00k"
SECRETS = [KEY, SECRET, READER_KEY, READER_SECRET, WRONG_SECRET, TOKEN, PASSWORD, SIGNATURE, WEBHOOK]


@dataclass(frozen=True)
class Place:
    """A store, a cluster that uses it, a luigid, and a folder to run in."""

    s3: S3
    dask: Dask
    luigid: Luigid
    folder: Path

    def run(self, url: str, workspace: str, **environment: str) -> tuple[int, str]:
        """Exit code of the plain command, and all that it said, at the level DEBUG."""
        options = ["--scheduler-port", str(self.luigid.port), "--url", url, "--workspace", workspace]
        options += ["--dask-scheduler", self.dask.address, "--download-retries", "0", "--log-level", "DEBUG"]
        config = self.folder / "chat.cfg"
        config.write_text(CONFIG.read_text().replace("webhook =\n", "webhook = ${CHAT_WEBHOOK}\n"))
        chat = {"LUIGI_CONFIG_PATH": str(config), "CHAT_WEBHOOK": f"http://127.0.0.1:9/{WEBHOOK}"}
        done = command("CombineGif", *options, folder=self.folder, **{**self.s3.environment, **chat, **environment})
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("secrets")
    with contextlib.ExitStack() as stack:
        luigid = stack.enter_context(Luigid(folder))
        dask = Dask(stack, folder, DASK_LOGGING__DISTRIBUTED="debug")
        dask.worker("--no-nanny", DASK_LOGGING__DISTRIBUTED="debug", **s3_server.environment)
        yield Place(s3_server, dask, luigid, folder)


def told(place: Place) -> Iterator[tuple[str, str]]:
    """All that can be read by those who are not to know, by where it stands."""
    yield "the log of scheduler and workers", place.dask.log.read_text()
    for state in ("PENDING", "RUNNING", "DONE", "FAILED", "DISABLED", "UPSTREAM_FAILED"):
        tasks = place.luigid.ask("task_list", status=state, upstream_status="")
        yield f"luigid's list of {state}", json.dumps(tasks)
        for task in tasks:
            for question in ("fetch_error", "get_task_status_message", "dep_graph", "inverse_dep_graph"):
                yield f"luigid's {question} of {task}", json.dumps(place.luigid.ask(question, task_id=task))
    yield "luigid's workers", json.dumps(place.luigid.ask("worker_list"))
    files = fsspec.filesystem("s3", key=KEY, secret=SECRET, endpoint_url=place.s3.endpoint, skip_instance_cache=True)
    for name in files.find(f"{place.s3.bucket}/secrets"):
        yield name, files.cat_file(name).decode("latin-1")
    for path in place.folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes().decode("latin-1")


def assert_no_secret(said: str, place: Place) -> None:
    everything = {"what the command said": said, **dict(told(place))}
    found = [(where, secret) for where, text in everything.items() for secret in SECRETS if secret in text]
    assert not found


def frames() -> bytes:
    return stream([encode(noise(seed=seed), "PNG") for seed in range(3)])


def with_secrets(url: str) -> str:
    """The URL with a password and a signature."""
    return url.replace("http://", f"http://somebody:{PASSWORD}@") + f"?raw=true&X-Amz-Signature={SIGNATURE}"


@pytest.mark.slow
def test_a_run_that_ends_well_tells_no_secret(place: Place, server: Server) -> None:
    url = with_secrets(server.put("/a", frames()))
    code, said = place.run(url, f"{place.s3.bucket}/secrets/well")
    assert code == 0, said
    assert "the webhook of [messages] did not take the message: " in said
    assert "secrets/well/manifest.json" in json.dumps(sorted(dict(told(place))))
    assert place.luigid.tasks("DONE").keys() >= {"Download", "Split", "WriteFrames", "CombineGif"}
    assert_no_secret(said, place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("wrong", {"AWS_SECRET_ACCESS_KEY": WRONG_SECRET}),
        ("token", {"AWS_SECRET_ACCESS_KEY": WRONG_SECRET, "AWS_SESSION_TOKEN": TOKEN}),
        ("denied", {"AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET}),
        ("away", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}),
    ],
)
def test_a_store_that_fails_tells_no_secret(
    name: str, environment: dict[str, str], place: Place, server: Server
) -> None:
    url = with_secrets(server.put("/a", frames()))
    code, said = place.run(url, f"{place.s3.bucket}/secrets/{name}", **environment)
    assert code != 0
    assert "StorageError: cannot" in said
    assert_no_secret(said, place)


@pytest.mark.slow
def test_a_source_that_fails_tells_no_secret(place: Place, server: Server) -> None:
    url = with_secrets(server.put("/a", frames()))
    server.always(status(403))
    code, said = place.run(url, f"{place.s3.bucket}/secrets/source")
    assert code != 0
    assert "DownloadError" in said
    assert_no_secret(said, place)


@pytest.mark.slow
def test_a_worker_that_fails_tells_no_secret(place: Place, server: Server) -> None:
    """Its credentials are other ones, so it is the one that is refused."""
    worker = place.dask.worker("--no-nanny", **{**place.s3.environment, "AWS_SECRET_ACCESS_KEY": WRONG_SECRET})
    until(lambda: place.dask.log.read_text().count("Registered to:") == 2)
    code, said = place.run(with_secrets(server.put("/a", frames())), f"{place.s3.bucket}/secrets/worker")
    worker.kill()
    assert code == 30
    assert re.search(r"the Dask worker tcp://\S+ cannot be used: cannot read s3://tests/secrets/worker/\S+: ", said)
    assert_no_secret(said, place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "workspace"),
    [
        ("http://127.0.0.1:9/a", f"s3://{KEY}:{SECRET}@tests/secrets"),
        ("http://127.0.0.1:9/a", f"s3://tests/secrets?X-Amz-Signature={SIGNATURE}"),
        ("http://127.0.0.1:9/a", f"no-such-store://somebody:{PASSWORD}@tests/secrets"),
        (f"s3://{KEY}:{SECRET}@tests/secrets/no-such-stream.img?X-Amz-Signature={SIGNATURE}", "s3://tests/secrets"),
        (f"http://somebody:{PASSWORD}@127.0.0.1:port/a", "s3://tests/secrets"),
    ],
)
def test_parameters_with_secrets_that_cannot_be_right_are_refused_and_not_shown(
    url: str, workspace: str, place: Place
) -> None:
    code, said = place.run(url, workspace)
    assert code != 0
    assert "Error: " in said
    assert_no_secret(said, place)
