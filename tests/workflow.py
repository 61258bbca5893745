"""Run the workflow as users do, and look at what it leaves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import luigi
from luigi.execution_summary import LuigiRunResult

LUIGI = str(Path(sys.executable).with_name("luigi"))
CONFIG = Path(__file__).parent.parent / "luigi.cfg"
DELIMITER = b"\n\n\n\n"


def stream(frames: Iterable[bytes]) -> bytes:
    """The file that a collector of frames would write."""
    return b"".join(frame + DELIMITER for frame in frames)


def build(task: luigi.Task, **options: object) -> LuigiRunResult:
    """Run a task in this process under Luigi's local scheduler."""
    return luigi.build([task], local_scheduler=True, detailed_summary=True, **options)


def command(
    *arguments: str | Path, folder: Path, config: bool = True, **options: str
) -> subprocess.CompletedProcess[str]:
    """Run the plain `luigi` command in `folder`, with or without the shipped luigi.cfg."""
    with started(*arguments, folder=folder, config=config, **options) as running:
        out, errors = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, out, errors)


def started(*arguments: str | Path, folder: Path, config: bool = True, **options: str) -> subprocess.Popen[str]:
    """The same, and come back while it runs."""
    surroundings = {"PATH": "/usr/bin:/bin", "TMPDIR": tempfile.gettempdir()}
    environment = {**surroundings, "LUIGI_CONFIG_PATH": str(CONFIG) if config else "/dev/null", **options}
    return subprocess.Popen(
        [LUIGI, "--module", "imagetl_luigi", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def versions(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file below the folder is written again, even with the same bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def changed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> set[str]:
    """Names that came, went or were written again."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def file_url(path: str) -> str:
    """The file:// URL of an absolute path."""
    return "file://" + quote(os.fsencode(path))
