"""The command scripts/draw_workflow: what a task needs, as a text tree or a picture; nothing is run.

    scripts/draw_workflow [--output workflow.svg] TASK [its parameters and settings, as for luigi]
    scripts/draw_workflow CombineGif --url https://example.org/cam.img --delay 40
    scripts/draw_workflow CombineGif --help        all parameters; --help-all: all settings, too

The task and all flags are Luigi's, as with luigi --module imagetl_luigi, and luigi.cfg is read as ever. Tasks of your
own come with --module. Neither a luigid nor the source of a URL is asked; a workspace in a store is.

Without --output the tree goes to standard output. A picture needs Graphviz; without it there is one line on standard
error that says so, the tree, and exit code 1.

Exit codes: 0 it is drawn; 1 it cannot be drawn, looked at or written; 2 the task, a flag or a value is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterException
from luigi.task_register import TaskClassException

import imagetl_luigi  # noqa: F401  # makes its tasks known to Luigi
from imagetl_luigi import drawing, storage
from imagetl_luigi.errors import DrawingError, ImagetlError, ParameterError
from imagetl_luigi.task_graph import task_graph

COULD_NOT, WRONG = 1, 2
"""Exit codes."""


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    if arguments in ([], ["-h"], ["--help"]):
        print(__doc__, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else WRONG
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal that knows no ├
    try:
        return _draw(arguments)
    except ImagetlError as error:
        _say(error)
        return WRONG if isinstance(error, ParameterError) else COULD_NOT


def _draw(arguments: list[str]) -> int:
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--output")
    try:
        known, rest = own.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ParameterError(str(error)) from None
    if known.output is not None and not known.output.endswith(".svg"):
        raise ParameterError(f"--output = {known.output!r} is not possible. Allowed: a name that ends in .svg")
    if known.output and storage.is_remote(known.output):
        storage.check(known.output)
    with _task(rest) as task:
        nodes = task_graph(task)
    if known.output is None:
        print(drawing.text_tree(nodes), end="")
        return 0
    try:
        picture = drawing.svg(nodes)
    except DrawingError as error:
        _say(error)
        print(drawing.text_tree(nodes), end="")
        return COULD_NOT
    with storage.atomic_write(known.output) as file:
        file.write(picture)
    return 0


@contextlib.contextmanager
def _task(arguments: list[str]) -> Iterator[luigi.Task]:
    """The task that Luigi makes of the arguments, whose settings hold within the block.

    Raises:
        ParameterError: there is no such task, flag or module, or a value cannot be right.
    """
    with contextlib.ExitStack() as stack:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                parser = stack.enter_context(CmdlineParser.global_instance(arguments))
                task = parser.get_task_obj()
        except SystemExit as end:
            if not end.code:  # --help
                raise
            # argparse says how all flags are used, and what is wrong at the end
            reason = end.code if isinstance(end.code, str) else said.getvalue().partition(": error: ")[2]
            raise ParameterError(_one_line(reason)) from None
        except (TaskClassException, ParameterException, ImportError, ValueError) as error:
            raise ParameterError(_one_line(str(error))) from None
        sys.stderr.write(said.getvalue())
        yield task


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say(error: ImagetlError) -> None:
    print(f"draw_workflow: {drawing.printable(str(error))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
