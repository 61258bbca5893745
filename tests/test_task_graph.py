"""task_graph: what a task needs, its state, and where its parameters flow in."""

from __future__ import annotations

import warnings
from pathlib import Path

import luigi
import pytest
from luigi.parameter import ParameterVisibility
from pictures import gif, noise
from workflow import build, stream

from imagetl_luigi import CombineGif, WriteFrames
from imagetl_luigi.errors import ParameterError
from imagetl_luigi.task_graph import MOST_ALIKE, Mapped, Need, Node, task_graph

FRAMES = [gif(seed=seed) for seed in range(4)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(nodes: list[Node]) -> dict[str, Node]:
    """The nodes by family, of which each must be there once."""
    families = {node.family: node for node in nodes}
    assert len(families) == len(nodes)
    return families


def done(nodes: list[Node]) -> dict[str, tuple[int, int | None]]:
    return {node.family: (node.complete, node.count) for node in nodes}


class Made(luigi.Task):
    """A task whose output is a file of its name."""

    name = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{self.name}.txt")


class Part(Made):
    pass


class Sum(Made):
    """Needs so many parts, of which each needs a Made."""

    parts = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [Piece(name=f"part{number}", total=self.name) for number in range(self.parts)]


class Piece(Made):
    total = luigi.Parameter()

    def requires(self) -> luigi.Task:
        return Part(name=self.name)

    def mapped(self) -> Mapped:
        number = int(self.name.removeprefix("part"))
        return Mapped("Crumb", None if self.total == "unknown" and number == 1 else 10, number)


def test_before_a_run_all_is_pending_and_nobody_knows_the_number_of_frames() -> None:
    nodes = named(task_graph(CombineGif(url="a.img", workspace="w")))
    assert list(nodes) == ["CombineGif", "WriteFrames", "Split", "Download", "WriteFrame"]
    assert {family: (node.complete, node.count) for family, node in nodes.items()} == {
        "CombineGif": (0, 1),
        "WriteFrames": (0, 1),
        "Split": (0, 1),
        "Download": (0, 1),
        "WriteFrame": (0, None),
    }
    assert not any(node.done for node in nodes.values())
    assert list(Path().iterdir()) == []


def test_half_way_and_after_a_run_it_says_what_is_there() -> None:
    Path("a.img").write_bytes(stream(FRAMES))
    clip = CombineGif(url="a.img", workspace="w")
    build(WriteFrames(url="a.img", workspace="w"))
    Path("w/frames/frame_02.gif").unlink()
    half = {"Download": (1, 1), "Split": (1, 1), "WriteFrames": (0, 1), "WriteFrame": (3, 4), "CombineGif": (0, 1)}
    assert done(task_graph(clip)) == half
    build(clip)
    nodes = task_graph(clip)
    assert done(nodes) == {family: (count, count) for family, (_, count) in half.items()}
    assert all(node.done for node in nodes)


def test_frames_of_another_manifest_do_not_count() -> None:
    Path("a.img").write_bytes(stream(FRAMES))
    build(WriteFrames(url="a.img", workspace="w"))
    Path("w/frames/.manifest-digest").write_text("another's")
    assert done(task_graph(WriteFrames(url="a.img", workspace="w")))["WriteFrame"] == (0, 4)


def test_frames_that_are_no_gifs_are_mapped_once_more_each_content_once() -> None:
    pngs = []
    for seed in (1, 2, 2):
        noise(seed=seed).save("a.png")
        pngs.append(Path("a.png").read_bytes())
    Path("a.img").write_bytes(stream([*pngs, FRAMES[0]]))
    clip = CombineGif(url="a.img", workspace="w")
    build(WriteFrames(url="a.img", workspace="w"))
    assert done(task_graph(clip))["ConvertFrame"] == (0, 2)
    build(clip)
    next(Path("w/converted").iterdir()).unlink()
    nodes = named(task_graph(clip))
    assert (nodes["ConvertFrame"].complete, nodes["ConvertFrame"].count) == (1, 2)
    families = [node.family for node in task_graph(clip)]
    needs = {families[number]: why for number, why in nodes["CombineGif"].needs.items()}
    assert needs == {"WriteFrames": Need.REQUIRED, "ConvertFrame": Need.MAPPED}


def test_each_parameter_is_shown_where_it_flows_in_and_empty_or_insignificant_ones_nowhere() -> None:
    nodes = named(task_graph(CombineGif(url="a.img", workspace="w", delay=40, verify=True)))
    assert {family: node.parameters for family, node in nodes.items()} == {
        "CombineGif": {"gif": "clip.gif", "delay": "40", "loop": "0"},
        "WriteFrames": {},
        "Split": {"delimiter": r"\n\n\n\n"},
        "Download": {"url": "a.img", "workspace": "w", "data_file": "image-data.img"},
        "WriteFrame": {},
    }
    assert "delay" not in named(task_graph(CombineGif(url="a.img")))["CombineGif"].parameters


def test_paths_are_those_that_the_tasks_write() -> None:
    nodes = named(task_graph(CombineGif(url="a.img", workspace="w")))
    paths = [nodes[family].outputs for family in ("Download", "Split", "WriteFrames", "CombineGif", "WriteFrame")]
    assert paths == [["w/image-data.img"], ["w/manifest.json"], ["w/frames"], ["w/clip.gif"], []]


def test_secrets_of_a_url_and_parameters_that_luigi_hides_are_left_out() -> None:
    class Hiding(luigi.Task):
        key = luigi.Parameter(visibility=ParameterVisibility.HIDDEN)
        word = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
        number = luigi.IntParameter()

    assert task_graph(Hiding(key="secret", word="secret", number=3))[0].parameters == {"number": "3"}
    nodes = task_graph(CombineGif(url="https://me:secret@example.org/a.img?raw=1&X-Amz-Signature=secret"))
    assert "secret" not in repr(nodes)
    assert named(nodes)["Download"].parameters["url"] == "https://example.org/a.img?raw=1"


def test_a_task_that_several_need_is_one_node() -> None:
    class Ends(luigi.WrapperTask):
        def requires(self) -> dict[str, luigi.Task]:
            return {"left": Piece(name="part0", total="t"), "right": Side(name="part0")}

    class Side(Made):
        def requires(self) -> list[luigi.Task]:
            return [Part(name=self.name)]

    nodes = task_graph(Ends())
    assert [node.family for node in nodes] == ["Ends", "Piece", "Side", "Part", "Crumb"]
    assert nodes[1].needs.keys() & nodes[2].needs.keys() == {3}


def test_what_run_will_yield_is_needed_too_and_what_is_required_as_well_is_required() -> None:
    class Nightly(luigi.Task):
        def requires(self) -> luigi.Task:
            return Part(name="a")

        def yields(self) -> list[luigi.Task]:
            return [Piece(name="part3", total="t"), Part(name="a")]

    nodes = task_graph(Nightly())
    needs = {(nodes[number].family, number): why for number, why in nodes[0].needs.items()}
    assert sorted(needs.values(), key=str) == [Need.REQUIRED, Need.YIELDED]
    assert {family for (family, _), why in needs.items() if why is Need.YIELDED} == {"Piece"}


@pytest.mark.parametrize("name", ["yields", "mapped"])
def test_a_parameter_may_have_the_name_of_the_methods_that_are_asked(name: str) -> None:
    task = type("Other", (luigi.Task,), {name: luigi.BoolParameter(default=True)})()
    assert task_graph(task)[0].parameters == {name: "True"}


def test_so_many_alike_are_shown_one_by_one() -> None:
    nodes = task_graph(Sum(name="t", parts=MOST_ALIKE))
    assert [node.family for node in nodes].count("Piece") == MOST_ALIKE
    assert not any(node.stacked for node in nodes if node.family != "Crumb")


def test_more_alike_are_one_node_with_their_counts_and_so_is_what_they_need() -> None:
    count = MOST_ALIKE + 1
    for number in range(3):
        Path(f"part{number}.txt").touch()  # of a Piece and of its Part
    nodes = named(task_graph(Sum(name="t", parts=count)))
    assert {family: (node.complete, node.count, node.stacked) for family, node in nodes.items()} == {
        "Sum": (0, 1, False),
        "Piece": (3, count, True),
        "Part": (3, count, True),
        "Crumb": (sum(range(count)), 10 * count, True),
    }
    assert [nodes[family].parameters for family in ("Sum", "Piece", "Part")] == [
        {"name": "t", "parts": str(count)},
        {"total": "t"},
        {"name": f"{count} values"},
    ]
    assert nodes["Piece"].outputs == []


def test_the_number_of_many_is_unknown_as_long_as_that_of_one_is() -> None:
    nodes = named(task_graph(Sum(name="unknown", parts=MOST_ALIKE + 1)))
    assert (nodes["Crumb"].count, nodes["Crumb"].complete) == (None, sum(range(MOST_ALIKE + 1)))


def test_a_family_whose_tasks_need_different_families_is_not_one_node() -> None:
    class Either(luigi.Task):
        number = luigi.IntParameter()

        def requires(self) -> list[luigi.Task]:
            return [Part(name=str(self.number))] if self.number % 2 else []

    class Both(luigi.WrapperTask):
        def requires(self) -> list[luigi.Task]:
            return [Either(number=number) for number in range(2 * MOST_ALIKE + 2)]

    assert [(node.family, node.count) for node in task_graph(Both())] == [
        ("Both", 1),
        ("Either", MOST_ALIKE + 1),
        ("Either", MOST_ALIKE + 1),
        ("Part", MOST_ALIKE + 1),
    ]


def test_a_long_chain_is_followed_to_its_end() -> None:
    class Link(luigi.Task):
        number = luigi.IntParameter()

        def requires(self) -> list[luigi.Task]:
            return [Link(number=self.number - 1)] if self.number else []

        def complete(self) -> bool:
            return self.number < 1000

    nodes = task_graph(Link(number=2000))
    assert (len(nodes), sum(node.complete for node in nodes)) == (2001, 1000)


def test_tasks_that_need_each_other_are_refused() -> None:
    class Hen(luigi.Task):
        def requires(self) -> luigi.Task:
            return Egg()

    class Egg(luigi.Task):
        def requires(self) -> luigi.Task:
            return Hen()

    class Farm(luigi.Task):
        def requires(self) -> luigi.Task:
            return Hen()

    with pytest.raises(ParameterError, match=r"never run, since (Hen needs Egg needs Hen|Egg needs Hen needs Egg)$"):
        task_graph(Farm())


def test_a_task_without_an_output_is_pending_and_luigi_does_not_complain() -> None:
    class Nothing(luigi.Task):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (node,) = task_graph(Nothing())
    assert (node.done, node.outputs) == (False, [])


def test_a_target_that_cannot_say_where_it_is_is_shown_as_what_it_is() -> None:
    class Answer(luigi.Target):
        def exists(self) -> bool:
            return True

    class Asked(luigi.Task):
        def output(self) -> list[luigi.Target]:
            return [Answer(), luigi.LocalTarget("a.txt")]

    (node,) = task_graph(Asked())
    assert node.outputs == ["Answer", "a.txt"]
