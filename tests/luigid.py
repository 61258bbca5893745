"""A real luigid on a port of 127.0.0.1: with Luigid(folder) as luigid: …"""

from __future__ import annotations

import configparser
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import requests
from waiting import until
from workflow import CONFIG


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def hasty(path: Path, *, attempts: int = 36, wait: int = 1, pace: int = 1, **scheduler: object) -> Path:
    """The shipped luigi.cfg at `path`, with other patience with a luigid that is away, and more in [scheduler]. A run
    that was killed is noticed so many times as soon, and one that waits leaves so many times as soon.
    """
    shipped = configparser.ConfigParser()
    shipped.read(CONFIG)
    for section, name, unit in (
        ("scheduler", "worker_disconnect_delay", ""),
        ("worker", "max_keep_alive_idle_duration", "s"),
    ):
        shipped[section][name] = f"{int(shipped[section][name].removesuffix('s')) // pace}{unit}"
    shipped["core"].update(rpc_retry_attempts=str(attempts), rpc_retry_wait=str(wait))
    shipped["scheduler"].update({name: str(value) for name, value in scheduler.items()})
    with path.open("w") as file:
        shipped.write(file)
    return path


class Luigid:
    """A central scheduler, from entering its `with` block to leaving it: Luigi's own command.

    Args:
        folder: where it keeps its state.
        config: the luigi.cfg that it reads.
    """

    def __init__(self, folder: Path, config: Path = CONFIG) -> None:
        self.folder = folder
        self.config = config
        self.process: subprocess.Popen[bytes]
        self.port = free_port()

    def command(self) -> list[str | Path]:
        """What starts it in the foreground."""
        luigid = Path(sys.executable).with_name("luigid")
        return [luigid, "--address", "127.0.0.1", "--port", str(self.port), "--state-path", self.folder / "state"]

    def start(self) -> None:
        """Start it, and come back when it answers."""
        self.process = subprocess.Popen(
            self.command(),
            env={"LUIGI_CONFIG_PATH": str(self.config)},
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self._answers, 60)

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def url(self, path: str = "") -> str:
        """The URL of one of its pages."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def ask(self, what: str, **data: Any) -> Any:
        """The answer of its API, which its page is drawn from."""
        answer = requests.get(self.url(f"api/{what}"), params={"data": json.dumps(data)}, timeout=10)
        return answer.json()["response"]

    def tasks(self, status: str) -> dict[str, dict[str, Any]]:
        """What it shows of the tasks in a state, by family."""
        listed = self.ask("task_list", status=status, upstream_status="")
        return {task["name"]: {**task, "id": key} for key, task in listed.items()}

    def _answers(self) -> bool:
        assert self.process.poll() is None, "it has ended"
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0


class OurLuigid(Luigid):
    """The one of scripts/luigid."""

    def command(self) -> list[str | Path]:
        run = [sys.executable, "-m", "imagetl_luigi.luigid", "run"]
        return [*run, "--folder", self.folder / "luigid", "--port", str(self.port)]
