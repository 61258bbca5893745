"""clean, clean_command: scripts/clean, which lists a workspace and removes what its manifest names."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from pictures import encode, gif, noise
from repository import link_to
from waiting import until
from workflow import build, contents, stream

from imagetl_luigi import CombineGif, storage
from imagetl_luigi.clean_command import main
from imagetl_luigi.manifest import read_manifest, write_manifest
from imagetl_luigi.split import Span
from imagetl_luigi.workspace import Workspace

FRAMES = [gif(seed=1), encode(noise(seed=2), "PNG"), gif(seed=3)]
LASTING = {"clip.gif", "manifest.json"}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with all that a run leaves, as seen from the current folder: "w"."""
    monkeypatch.chdir(tmp_path)
    Path("cam.img").write_bytes(stream(FRAMES))
    make()
    return tmp_path / "w"


def make(**parameters: str) -> None:
    """Run the workflow in "w"."""
    assert build(CombineGif(**{"url": "cam.img", "workspace": "w"} | parameters)).scheduling_succeeded


def left(workspace: Path) -> set[str]:
    return contents(workspace).keys() - {".lock"}


def test_a_list_has_every_kind_with_its_bytes_and_removes_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(workspace)
    assert main(["w"]) == 0
    assert contents(workspace) == before
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{workspace}: 3 frames of {workspace.parent}/cam.img, fetched 20")
    counted = {line[:38].strip(): line.split()[-6:] for line in lines if "kept by" not in line}
    size = sum(map(len, FRAMES))
    assert " ".join(counted["frames/"]) == f"4 files {size + 64:,} bytes (0.0 MB)"
    assert " ".join(counted["image-data.img"]) == f"1 file {size + 12:,} bytes (0.0 MB)"
    assert counted.keys() == {
        *("frames/", "converted/", "image-data.img", "records and leftovers", "together", "--remove would free")
    }
    assert {line.split()[0] for line in lines if "kept by --remove" in line} == LASTING
    together = sum(path.stat().st_size for path in workspace.rglob("*") if path.is_file())
    assert f"{together:,} bytes" in next(line for line in lines if "together" in line)


def test_what_can_be_made_again_is_removed_and_the_workflow_still_counts_as_done(workspace: Path) -> None:
    made = left(workspace)
    assert main(["--remove", "w"]) == 0
    assert left(workspace) == LASTING
    assert not (workspace / "frames").exists()
    make()
    assert left(workspace) == LASTING
    (workspace / "clip.gif").unlink()
    make()
    assert left(workspace) == made


def test_all_is_removed_and_its_folder(workspace: Path) -> None:
    assert main(["--remove", "--all", "w/"]) == 0
    assert not workspace.exists()


def test_foreign_files_stay_and_so_do_their_folders(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ["notes.txt", "frames/frame_03.gif", "frames/mine.png", f"converted/{'0' * 64}.gif", "more/deep.txt"]
    for name in mine:
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_text("mine")
    frame = workspace / "frames/frame_00.gif"
    frame.write_bytes(frame.read_bytes() + b"edited")
    assert main(["--remove", "--all", "w"]) == 0
    assert left(workspace) == {*mine, "frames/frame_00.gif"}
    said = capsys.readouterr().out
    for line in ("notes.txt, 4 bytes (0.0 MB)", "more/, a folder", "frames/frame_00.gif, "):
        assert f"\n    {line}" in said


def test_a_file_of_its_name_that_the_manifest_was_not_made_from_stays(workspace: Path) -> None:
    (workspace / "image-data.img").write_bytes(b"newer")
    (workspace / "clip.gif").write_bytes(gif(seed=9))
    assert main(["--remove", "--all", "w"]) == 0
    assert left(workspace) == {"image-data.img", ".image-data.img.source.json", "clip.gif"}


def test_a_data_file_that_was_put_there_by_hand_is_removed_with_all_and_not_before(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (workspace / ".image-data.img.source.json", workspace / "manifest.json"):
        path.unlink()
    make()
    assert main(["--remove", "w"]) == 0
    assert left(workspace) == {"image-data.img", *LASTING}
    assert "image-data.img (put there by hand)" in capsys.readouterr().out
    assert main(["--remove", "--all", "w"]) == 0
    assert not workspace.exists()


def test_files_of_other_names_are_named_as_for_the_workflow(workspace: Path, tmp_path: Path) -> None:
    make(data_file=str(tmp_path / "elsewhere.img"), gif="night.gif", workspace="v")
    assert main(["--remove", "v"]) == 0
    assert (tmp_path / "elsewhere.img").exists()
    assert main(["--remove", "--all", "--data-file", str(tmp_path / "elsewhere.img"), "--gif", "night.gif", "v"]) == 0
    assert not (tmp_path / "v").exists()
    assert not (tmp_path / "elsewhere.img").exists()
    assert (tmp_path / "cam.img").exists()


def test_what_killed_runs_left_is_removed(workspace: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    host = storage.local_files._HOST
    ended, running = (f".imagetl-{host}-{pid}-0.tmp" for pid in (gone.pid, os.getpid()))
    for name in ("image-data.img.part", "image-data.img.part.json", ended, f"frames/{ended}", running):
        (workspace / name).touch()
    assert main(["--remove", "w"]) == 0
    assert left(workspace) == {running, *LASTING}


def hostile(workspace: Path, sha256: str) -> None:
    """A manifest that Split would not write, and whose digest is right."""
    manifest = read_manifest(str(workspace / "manifest.json"))
    assert manifest
    span = Span(offset=0, length=4, format="png", width=1, height=1, sha256=sha256, opaque=True)
    write_manifest(manifest.path, [span], source=manifest.source, fingerprint="", delimiter="x")


@pytest.mark.parametrize("name", ["../../victim", "{}/victim", "../notes"])
def test_a_manifest_with_a_digest_that_is_a_path_is_refused_and_nothing_removed(
    workspace: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile(workspace, name.format(tmp_path))
    for victim in (tmp_path / "victim.gif", workspace / "notes.gif"):
        victim.write_text("mine")
    before = contents(tmp_path)
    assert main(["--remove", "--all", "w"]) == 1
    assert contents(tmp_path) == before
    assert f"manifest.json is damaged: frame 0 has {name.format(tmp_path)!r} for a SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../victim.gif", "/victim.gif", "frame_02.gif/../../x", "frame_1.png"])
def test_a_manifest_with_a_name_that_is_no_frames_is_refused_and_nothing_removed(
    workspace: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "manifest.json"
    path.write_text(path.read_text().replace('"frame_02.gif"', json.dumps(name)))
    before = contents(workspace)
    assert main(["--remove", "--all", "w"]) == 1
    assert contents(workspace) == before
    said = capsys.readouterr().err
    assert said.startswith("clean: ")
    assert "manifest.json is damaged: frame 2 is listed as frame 2" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["--remove"], ["--remove", "--all"]])
def test_what_is_no_workspace_is_refused_with_one_message_and_the_others_are_done(
    workspace: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/frames").mkdir()
    (tmp_path / "mine/frames/frame_00.gif").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/manifest.json").write_text("{}")
    before = contents(tmp_path / "mine")
    assert main([*arguments, "mine", "gone", "broken", "http://host/w", "w"]) == 1
    said = capsys.readouterr()
    for line, reason in zip(
        said.err.splitlines(),
        ("it holds no manifest", "it holds no manifest", "cannot be read", "is no place in a store"),
        strict=True,
    ):
        assert line.startswith("clean: ")
        assert reason in line
    assert contents(tmp_path / "mine") == before
    assert not (tmp_path / "gone").exists()
    assert f"{workspace}: 3 frames" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "required: workspace"), (["--all", "w"], "--all says what is removed"), (["--rm", "w"], "unrecognized")],
)
def test_a_wrong_flag_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_it_waits_for_a_run_in_the_workspace(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def waits() -> bool:
        said.append(capsys.readouterr().out)
        return "waiting for a run in it to end" in "".join(said)

    cleaning = threading.Thread(target=main, args=(["--remove", "--all", "w"],))
    with storage.locked(str(workspace), lambda: None):
        cleaning.start()
        until(waits)
        assert (workspace / "frames/frame_00.gif").exists()
    cleaning.join()
    assert not workspace.exists()


def test_many_files_are_not_listed_one_by_one(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3000):
        (workspace / f"frames/mine {number}").touch()
    assert main(["w"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 40
    assert "… and 2,980 more, 0 bytes" in said


def test_no_name_of_a_file_reaches_the_terminal_unseen(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (b"\xff", b"\x1b[2J", "größe 日本".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(workspace), name))).touch()
    assert main(["w"]) == 0
    said = capsys.readouterr().out
    assert "    \\udcff, 0 bytes" in said
    assert "    \\x1b[2J, 0 bytes" in said
    assert "    größe 日本, 0 bytes" in said


def test_the_script_runs_in_any_folder(workspace: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [link_to("clean", tmp_path / "elsewhere"), "--remove", "."],
        cwd=workspace,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "removed" in run.stdout
    assert left(workspace) == LASTING


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_workspace_in_a_store_is_cleaned_alike(
    workspace: Path, kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    place = (request.getfixturevalue("s3") if kind == "s3" else "memory://clean") + "/w"
    make(workspace=place)
    paths = Workspace.of("cam.img", place)
    storage.write_bytes(f"{place}/notes.txt", b"mine")
    storage.write_bytes(f"{place}/image-data.img.part/1-000000", b"a part")
    assert main(["--remove", place]) == 0
    assert storage.sizes(place).keys() == {"notes.txt", *LASTING}
    assert storage.sizes(paths.frames) == storage.sizes(f"{place}/image-data.img.part") == {}
    assert main(["--remove", "--all", place]) == 0
    assert storage.sizes(place) == {"notes.txt": 4}
    assert "notes.txt, 4 bytes" in capsys.readouterr().out
    storage.remove(f"{place}/notes.txt")
