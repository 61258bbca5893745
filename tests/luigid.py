"""A real luigid on a port of 127.0.0.1: with Luigid(folder) as luigid: …"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import requests
from waiting import until
from workflow import CONFIG


class Luigid:
    """A central scheduler, from entering its `with` block to leaving it.

    Args:
        folder: where it keeps its state.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> Self:
        arguments = ["--address", "127.0.0.1", "--port", str(self.port), "--state-path", str(self._folder / "state")]
        self._process = subprocess.Popen(
            [str(Path(sys.executable).with_name("luigid")), *arguments],
            env={"LUIGI_CONFIG_PATH": str(CONFIG)},
            cwd=self._folder,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self._answers, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, what: str, **data: Any) -> Any:
        """The answer of its API, which its page is drawn from."""
        url = f"http://127.0.0.1:{self.port}/api/{what}"
        return requests.get(url, params={"data": json.dumps(data)}, timeout=10).json()["response"]

    def tasks(self, status: str) -> dict[str, dict[str, Any]]:
        """What it shows of the tasks in a state, by family."""
        listed = self.ask("task_list", status=status, upstream_status="")
        return {task["name"]: {**task, "id": key} for key, task in listed.items()}

    def _answers(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0
