"""README.md: its commands are ones that Luigi takes, and nothing is left out."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import luigi
import pytest
from luigi.cmdline_parser import CmdlineParser

from imagetl_luigi import CombineGif, CombineGifs, Gallery, NightlyGif, WatchPage
from imagetl_luigi.config import SECTIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^luigi (.*)", BLOCKS.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_luigi_takes_every_command(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = next(block for block in re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    Path("streams.toml").write_text(catalog)
    full = command.replace("…", "--module imagetl_luigi", 1) if command.startswith("…") else command
    full = full.replace("…", "--local-scheduler --url https://example.org/cam.img")
    arguments = shlex.split(full, comments=True)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as ended, CmdlineParser.global_instance(arguments):
            pass
        assert not ended.value.code
        return
    with CmdlineParser.global_instance(arguments) as parser:
        assert isinstance(parser.get_task_obj(), luigi.Task)


def test_there_are_commands_for_every_day() -> None:
    assert len(COMMANDS) >= 10


def test_every_block_of_toml_is_toml() -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        assert tomllib.loads(block)


@pytest.mark.parametrize("task", [CombineGif, NightlyGif, CombineGifs, WatchPage, Gallery])
def test_every_parameter_is_documented(task: type[luigi.Task]) -> None:
    flags = [name.replace("_", "-") for name in task.get_param_names(include_significant=True)]
    assert [flag for flag in flags if f"`--{flag}" not in README] == []


def test_every_setting_is_documented() -> None:
    settings = [name for section in SECTIONS for name in section.get_param_names(include_significant=True)]
    assert [name for name in settings if f"`{name}`" not in README] == []


def test_every_script_and_picture_is_there() -> None:
    named = set(re.findall(r"scripts/\w+|docs/[\w.]+", README))
    assert named >= {f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir() if path.name != "setup"} - {
        "scripts/make_sample"
    }
    assert [name for name in named if not (ROOT / name).exists()] == []
