"""Which module may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in (ROOT / "imagetl_luigi").glob("*.py")}
LUIGI = {
    "__init__",
    "tasks",
    "nightly",
    "nightly_command",
    "streams",
    "watch",
    "gallery",
    "stage",
    "frame_tasks",
    "config",
    "parameters",
    "targets",
    "progress",
    "run_end",
    "report",
    "messages",
    "dask_worker",
    "dask_chunk",
    "task_graph",
    "drawing",
    "draw_workflow",
    "luigid",
    "luigid_server",
    "luigid_guard",
    "luigid_state",
    "luigid_history",
}
DASK = {"dask_threads", "dask_cluster", "dask_connect", "dask_shared"}
WORKFLOW = {
    "tasks",
    "stage",
    "frame_tasks",
    "targets",
    "manifest",
    "split",
    "formats",
    "exif",
    "turning",
    "gif",
    "still",
    "workspace",
    "source",
    "download",
    "transfer",
    "object_source",
    "nightly",
    "nights",
    "streams",
    "watch",
    "watch_page",
    "contact_sheet",
    "sheet_drawing",
    "shrinking",
    "catalog",
    "clean",
    "part",
    "storage",
    "worker_check",
    "gif_frames",
    "report",
    "messages",
    "gallery",
    "gallery_page",
    "survey",
    "newest",
    "thumbnail",
}


def imports(module: str) -> set[str]:
    """Names of the modules that it imports, ours without the name of the package."""
    names: set[str] = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module == "imagetl_luigi"):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.removeprefix("imagetl_luigi.") for name in names}


def libraries(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - LUIGI - DASK))
def test_the_plain_library_knows_neither_luigi_nor_dask(module: str) -> None:
    assert not libraries(module) & {"luigi", "dask", "distributed"}
    assert not imports(module) & (LUIGI | DASK)


@pytest.mark.parametrize(
    "module",
    [
        *("dask_worker", "dask_chunk", "dask_threads", "dask_cluster", "dask_connect", "dask_shared"),
        *("progress", "bar", "run_end", "task_graph", "drawing"),
        *("luigid", "luigid_server", "luigid_guard", "luigid_state", "luigid_history", "pid_file"),
    ],
)
def test_what_takes_any_luigi_task_knows_nothing_of_the_workflow(module: str) -> None:
    assert not imports(module) & WORKFLOW


@pytest.mark.parametrize(
    ("library", "modules"),
    [
        ("fsspec", {"remote"}),
        ("imageio", {"still"}),
        ("numpy", {"still"}),
        ("PIL", {"still", "shrinking", "sheet_drawing", "turning"}),
        ("graphviz", {"drawing"}),
        ("tqdm", {"bar"}),
        ("sqlalchemy", {"luigid_history"}),
        ("jinja2", {"page"}),
    ],
)
def test_a_heavy_library_is_imported_in_few_places(library: str, modules: set[str]) -> None:
    assert {name for name in MODULES if library in libraries(name)} == modules


def test_distributed_is_imported_only_where_a_cluster_is_asked_for() -> None:
    assert {name for name in MODULES if "distributed" in libraries(name)} == {"dask_cluster", "dask_connect"}
