"""parameters: values from a command line, a configuration or Python."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetl_luigi import CombineGif, CombineGifs, NightlyGif, Split
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.parameters import DelimiterParameter, to_bytes


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"\n\n\n\n", b"\n\n\n\n"),
        ("\n\n\n\n", b"\n\n\n\n"),
        (r"\r\n", b"\r\n"),
        (r"--frame--\n", b"--frame--\n"),
        (r"\x00\xff", b"\x00\xff"),
        (r"\\n", rb"\n"),
        ("–", "–".encode()),
    ],
)
def test_escapes_of_a_delimiter_are_understood(text: str, data: bytes) -> None:
    assert to_bytes(text) == data


@pytest.mark.parametrize("text", ["", r"\x", "\\", r"\u20ac"])
def test_a_delimiter_that_stands_for_no_bytes_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"delimiter.*Allowed: "):
        Split(delimiter=text)


@given(st.binary(min_size=1, max_size=20))
def test_any_bytes_can_be_a_delimiter_and_have_one_spelling(data: bytes) -> None:
    spelling = DelimiterParameter().normalize("".join(f"\\x{byte:02x}" for byte in data))
    assert to_bytes(spelling) == data
    assert spelling.isascii()
    assert spelling.isprintable()
    assert DelimiterParameter().normalize(spelling) == spelling


def test_both_spellings_of_a_delimiter_are_the_same_task() -> None:
    assert Split(delimiter="\n\n").task_id == Split(delimiter=r"\n\n").task_id


@pytest.mark.parametrize("url", ["", "  "])
def test_an_empty_url_is_refused(url: str) -> None:
    with pytest.raises(ParameterError, match=r"url = .*Allowed: "):
        Split(url=url)


@pytest.mark.parametrize(
    "parameters", [{"delay": 33}, {"delay": -10}, {"delay": 655360}, {"loop": -1}, {"loop": 65537}]
)
def test_a_speed_that_no_gif_has_is_refused(parameters: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match=r"is not possible.*llowed"):
        CombineGif(**parameters)


def test_luigi_sees_no_secret_of_a_url() -> None:
    url = "https://me:geheim@example.org/a.img?night=2&X-Amz-Signature=f00"
    task = CombineGif(url=url, workspace="w")
    shown = f"{task} {task.task_id} {task.to_str_params()}"
    assert "geheim" not in shown
    assert "f00" not in shown
    assert "url=https://example.org/a.img?night=2," in shown
    assert task.requires().requires().requires().url == url, "it is fetched with them"
    assert CombineGif(url="https://example.org/a.img?night=2", workspace="w").task_id == task.task_id


@pytest.mark.parametrize("url", ["cam.img", "/a/cam.img", "file:///a/cam.img", "s3://bucket/cam.img"])
def test_a_url_without_secrets_is_shown_as_it_was_given(url: str) -> None:
    assert CombineGif(url=url).to_str_params()["url"] == url


@given(st.dates(min_value=datetime.date(1000, 1, 1)))
def test_a_day_has_one_spelling(day: datetime.date) -> None:
    parameter = NightlyGif.date
    assert parameter.parse(parameter.serialize(day)) == day


@pytest.mark.parametrize("text", ["", "today", "24.11.2026", "2026-02-30", "2026-11", "2026-11-24T00"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"date = .* is no date\. Allowed: year-month-day, as 2026-11-24"):
        NightlyGif.date.parse(text)


def test_a_night_is_today_unless_it_is_said_otherwise() -> None:
    before = datetime.date.today()
    assert before <= NightlyGif(url="a").date <= datetime.date.today()
    assert NightlyGif(url="a", date=datetime.date(2020, 1, 2)).date == datetime.date(2020, 1, 2)


@pytest.mark.parametrize("url", ["https://h/{dat}.img", "https://h/{date}{}.img", "https://cam-{date/a.img"])
def test_braces_that_hold_no_date_are_refused(url: str) -> None:
    with pytest.raises(ParameterError, match=r"is not possible\. Allowed in braces: \{date\}"):
        NightlyGif(url=url)


def test_the_date_may_stand_anywhere_in_a_url_and_braces_in_a_path() -> None:
    task = NightlyGif(url="https://cam-{date:%Y}.example.org/{date}.img", date=datetime.date(2026, 11, 24))
    assert task.animation().url == "https://cam-2026.example.org/2026-11-24.img"
    assert task.to_str_params()["url"] == "https://cam-{date:%Y}.example.org/{date}.img"
    assert NightlyGif(url="{a}/{date}.img", date=datetime.date(2026, 11, 24)).animation().url == "{a}/2026-11-24.img"


def test_the_url_of_many_nights_is_refused_where_one_is_asked_for() -> None:
    with pytest.raises(ParameterError, match=r"\{date\}.img' is that of many nights; use NightlyGif"):
        CombineGif(url="https://h/{date}.img")


@pytest.mark.parametrize(
    ("make", "message"), [(NightlyGif, "url = '' is empty"), (CombineGifs, "catalog is not given")]
)
def test_what_must_be_given_is_said_in_one_line(make: type, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()
