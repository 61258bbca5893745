"""A repository whose path has spaces, and in which everything is set up: for the scripts that set up .venv first."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def link_to(script: str, folder: Path) -> Path:
    """A link to a script in a repository made in `folder`, whose .venv is that of the tests."""
    repository = folder / "a repository"
    for name in (f"scripts/{script}", "scripts/setup", "setup.py", "luigi.cfg"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, repository / name)
    (repository / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith(".installed-"):
            (repository / ".venv" / path.name).symlink_to(path)
    (repository / ".venv/.installed-").touch()
    link = folder / script
    link.symlink_to(repository / "scripts" / script)
    return link
