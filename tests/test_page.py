"""page: templates with style and script put into them, behind a policy."""

from __future__ import annotations

import base64
import doctest
import hashlib
import html
import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetl_luigi import page
from imagetl_luigi.errors import PageError

MARK = page.mark_of("a", 1)
HOSTILE = """</script><script>alert("1")</script>' onload=x <!-- {{ 7 * 7 }} \udce9"""
VALUES = {
    "title": HOSTILE,
    "name": HOSTILE,
    "icon": "",
    "data": {"name": [HOSTILE]},
}


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template "a" with style and script, which shows `name` and holds `data`."""
    from jinja2 import DictLoader

    files = {
        "a.html": "{% extends 'base.html' %}{% block body %}<h1 title='{{ name }}'>{{ name }}</h1>"
        "<script type='application/json'>{{ data|tojson }}</script>{% endblock %}",
        "a.css": "h1 > b { content: '<&>' }",
        "a.js": "const less = 1 < 2 && 3 > 2;",
        "base.css": "",
        "base.html": page._text("base.html"),
    }
    monkeypatch.setattr(page._environment(), "loader", DictLoader(files))
    monkeypatch.setattr(page, "_text", lambda name: files.get(name, ""))
    page._environment().cache.clear()


def test_the_examples_are_true() -> None:
    assert doctest.testmod(page).failed == 0


@pytest.mark.usefixtures("template")
def test_the_policy_allows_the_style_and_the_script_of_the_page_and_pictures_beside_it() -> None:
    text = page.render("a", MARK, VALUES).decode()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="(.*?)"', text)[0])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "'self'")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    assert "1 < 2 && 3 > 2" in text


@pytest.mark.usefixtures("template")
def test_whatever_is_put_into_a_page_is_text() -> None:
    text = page.render("a", MARK, VALUES).decode()
    assert len(re.findall("<script", text)) == 2
    assert "onload=x" in text
    assert not re.search(r"<[^>]*'\s+onload=", text)
    assert "49" not in re.findall("<title>(.*?)</title>", text)[0]


@pytest.mark.usefixtures("template")
def test_a_page_says_what_it_was_made_from(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    assert page.read_mark(str(path)) is None
    path.write_text("<!doctype html>somebody's own")
    assert page.read_mark(str(path)) is None
    with pytest.raises(PageError, match=r"index.html is there, and imagetl_luigi has not made it; move it away"):
        page.check_place(str(path))
    path.write_bytes(page.render("a", MARK, VALUES))
    assert page.read_mark(str(path)) == MARK
    page.check_place(str(path))


def test_a_mark_is_another_where_anything_is() -> None:
    marks = [page.mark_of(*parts) for parts in (["a"], ["b"], ["a", None], ["a", {"x": 1}], ["a", {"x": 2}])]
    assert len(set(marks)) == len(marks)


@given(
    st.lists(st.text(st.characters(exclude_characters="\0/"), min_size=1), min_size=1, max_size=3), st.text(max_size=5)
)
def test_a_link_names_exactly_one_file_below_the_page(names: list[str], version: str) -> None:
    if {".", ".."} & set(names):
        return
    try:
        url = page.link(*names, version=version)
    except UnicodeEncodeError:  # a name that no file can have
        return
    whole = urlsplit(urljoin("http://example.org/w/index.html", url))
    assert whole.netloc == "example.org"
    assert unquote(whole.path, errors="surrogateescape") == "/w/" + "/".join(names)
    assert not set(url) & set("\"'<>&\\ ")


@pytest.mark.parametrize(
    ("url", "followed"),
    [
        ("https://example.org/a", True),
        ("HTTP://example.org/a", True),
        ("javascript://%0aalert(1)", False),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("s3://bucket/a", False),
        ("/a/file", False),
    ],
)
def test_only_web_addresses_are_links(url: str, followed: bool) -> None:
    assert (page.web_address(url) is not None) == followed
