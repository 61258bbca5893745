"""config: the sections of luigi.cfg."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from imagetl_luigi import CombineGif, config
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.settings import DaskSettings, DownloadSettings, Limits

SECTIONS = {"download": (config.download, DownloadSettings), "dask": (config.dask, DaskSettings)}
SECTIONS["limits"] = (config.limits, Limits)
SHIPPED = Path(__file__).parent.parent / "luigi.cfg"


@pytest.mark.parametrize("name", SECTIONS)
def test_without_luigi_cfg_the_defaults_are_those_of_the_code(name: str) -> None:
    section, record = SECTIONS[name]
    assert section().settings() == record()


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


def test_every_parameter_of_the_main_task_has_a_help_text() -> None:
    assert all(parameter.description for _, parameter in CombineGif.get_params())
