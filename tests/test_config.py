"""config: the sections of luigi.cfg."""

from __future__ import annotations

import configparser
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import LuigiConfigParser

from imagetl_luigi import CombineGif, config
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.settings import DaskSettings, DownloadSettings, Limits, MessageSettings

SECTIONS = {"download": (config.download, DownloadSettings), "dask": (config.dask, DaskSettings)}
SECTIONS["limits"] = (config.limits, Limits)
SECTIONS["messages"] = (config.messages, MessageSettings)
SHIPPED = Path(__file__).parent.parent / "luigi.cfg"


@pytest.mark.parametrize("name", SECTIONS)
def test_without_luigi_cfg_the_defaults_are_those_of_the_code(name: str) -> None:
    section, record = SECTIONS[name]
    assert section().settings() == record()


def test_the_settings_of_the_command_line_go_with_a_task_into_a_process_that_was_not_forked(tmp_path: Path) -> None:
    options = ["--dask-scheduler", "tcp://127.0.0.1:9", "--limits-frames", "7", "--download-retry-wait", "0.5"]
    with CmdlineParser.global_instance(["CombineGif", "--url", "a.img", *options]) as parser:
        (tmp_path / "task").write_bytes(pickle.dumps(parser.get_task_obj()))
    script = (
        "import pickle, sys\n"
        "task = pickle.load(open('task', 'rb'))\n"
        "from imagetl_luigi.config import dask, download, limits\n"
        "print(task.url, dask().scheduler, limits().frames, download().retry_wait, dask().settings().chunk_size)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["a.img", "tcp://127.0.0.1:9", "7", "0.5", "256"]


@pytest.mark.parametrize("name", SECTIONS)
def test_the_shipped_luigi_cfg_names_every_option_with_its_default(name: str) -> None:
    shipped = configparser.ConfigParser()
    shipped.read(SHIPPED)
    section = SECTIONS[name][0]
    parsed = {key: dict(section.get_params())[key].parse(value) for key, value in shipped[name].items()}
    assert parsed == section().param_kwargs


@pytest.mark.parametrize("name", SECTIONS)
def test_every_option_has_a_help_text(name: str) -> None:
    assert all(parameter.description for _, parameter in SECTIONS[name][0].get_params())


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("download", "retries", -1),
        ("download", "retry_wait", -0.1),
        ("download", "read_timeout", 0),
        ("download", "total_timeout", float("nan")),
        ("dask", "scheduler", "thread"),
        ("dask", "threads", -1),
        ("dask", "cluster_workers", 0),
        ("dask", "chunk_size", 0),
        ("dask", "at_once", -1),
        ("dask", "wait_for_workers", 0),
        ("limits", "frames", 0),
        ("messages", "when", "never"),
        ("messages", "timeout", 0),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_what_is_allowed(name: str, option: str, value: object) -> None:
    with pytest.raises(ParameterError, match=rf"\[{name}\] {option} = .*Allowed: "):
        SECTIONS[name][0](**{option: value}).settings()


@pytest.mark.parametrize("option", ["tls_ca", "tls_certificate", "tls_key"])
def test_a_file_of_tls_that_is_not_there_is_named(option: str, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.pem"):
        with pytest.raises(ParameterError, match=rf"\[dask\] {option} = '{path}' is not a file; give its path"):
            config.dask(**{option: str(path)}).settings()
    (tmp_path / "there.pem").touch()
    path = str(tmp_path / "there.pem")
    assert getattr(config.dask(**{option: path}).settings(), option) == path


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.org/secret",
        "ftp://hooks.example.org/secret",
        "https:///secret",
        "https://hooks.example.org:port/secret",
        "https://hooks.example.org:0/secret",
        "https://[hooks/secret",
        "https://hooks.example.org/secret\nHost: other",
        "https://hooks.example.org/my secret",
    ],
)
def test_a_webhook_that_cannot_be_one_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ParameterError, match=r"\[messages\] webhook is no URL .*Allowed: https://…") as refused:
        config.messages(webhook=url).settings()
    assert "secret" not in str(refused.value).replace("being a secret", "")


def test_the_webhook_is_in_no_text_that_luigi_or_python_makes_of_the_settings() -> None:
    section = config.messages(webhook="https://hooks.example.org/T0KEN")
    assert section.settings().webhook == "https://hooks.example.org/T0KEN"
    texts = [repr(section), str(section), section.task_id, repr(section.settings()), str(config.carried())]
    assert "T0KEN" not in "".join([*texts, *section.to_str_params()])


@pytest.mark.parametrize("value", ["${NO_SUCH_VARIABLE_T0KEN}", "https://hooks.example.org/%2FT0KEN"])
def test_a_webhook_of_luigi_cfg_that_cannot_be_made_out_is_refused_and_not_shown(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "luigi.cfg").write_text(f"[messages]\nwebhook = {value}\n")
    luigi_cfg = LuigiConfigParser()
    luigi_cfg.read(tmp_path / "luigi.cfg")
    monkeypatch.setattr(LuigiConfigParser, "_instance", luigi_cfg)
    with pytest.raises(ParameterError, match=r"\[messages\] webhook of luigi.cfg cannot be read.*%%") as refused:
        config.messages.read()
    assert "T0KEN" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_webhook_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "luigi.cfg").write_text("[messages]\nwebhook = ${CHAT_WEBHOOK}\n")
    luigi_cfg = LuigiConfigParser()
    luigi_cfg.read(tmp_path / "luigi.cfg")
    monkeypatch.setattr(LuigiConfigParser, "_instance", luigi_cfg)
    monkeypatch.setenv("CHAT_WEBHOOK", "https://hooks.example.org/a%2Fb")
    assert config.messages.read().settings().webhook == "https://hooks.example.org/a%2Fb"


def test_every_parameter_of_the_main_task_has_a_help_text() -> None:
    assert all(parameter.description for _, parameter in CombineGif.get_params())
