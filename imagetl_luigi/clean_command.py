"""The command line of scripts/clean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from imagetl_luigi import nights
from imagetl_luigi.clean import Inventory, remove, take_inventory
from imagetl_luigi.errors import ImagetlError, ParameterError
from imagetl_luigi.workspace import Workspace

MOST_SHOWN = 20
"""Files shown by name of those that are left alone."""

_DESCRIPTION = """\
List what workspaces hold, and with --remove remove it: frames, converted/, data file and records, which can be made
or fetched again as long as the source still has them. The GIF and manifest.json stay, with which the workflow counts
as done, and so does a data file that was put there by hand; --remove --all removes these, too.

Only what manifest.json names is removed, if it is still what the manifest says, and what the workflow keeps beside
it. Other files stay, and their folders."""

_EPILOG = """\
examples:
  scripts/clean data/cam-1a2b3c4d
  scripts/clean --remove nights/2026-10-*
  scripts/clean --remove --all s3://bucket/cam"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code: 0, or 1 if a workspace could not be listed or cleaned."""
    options = _parser().parse_args(arguments)
    if options.all and not options.remove:
        _parser().error("--all says what is removed, and so goes with --remove")
    code = 0
    for name in options.workspace:
        try:
            _clean(name, options)
        except ImagetlError as error:
            print(_printable(f"clean: {error}"), file=sys.stderr)
            code = 1
        except KeyboardInterrupt:
            print("clean: stopped; what is left can be removed by the same command", file=sys.stderr)
            return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clean",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "workspace", nargs="+", help="a folder that the workflow made, or a URL such as s3://bucket/cam"
    )
    parser.add_argument("--remove", action="store_true", help="remove what can be made or fetched again")
    parser.add_argument("--all", action="store_true", help="with --remove: GIF, manifest.json and empty folders, too")
    parser.add_argument("--data-file", default="image-data.img", help="as given to the workflow; default: %(default)s")
    parser.add_argument("--gif", default="clip.gif", help="as given to the workflow; default: %(default)s")
    return parser


def _clean(name: str, options: argparse.Namespace) -> None:
    if not name:
        raise ParameterError("a workspace is empty; give a folder or a URL such as s3://bucket/cam")
    paths = Workspace.of("", name, options.data_file, options.gif).absolute()
    if options.remove:
        held = remove(paths, options.all, waiting=f"{paths.root}: waiting for a run in it to end")
    else:
        held = take_inventory(paths)
    print(*map(_printable, _report(paths.root, held, options)), sep="\n", flush=True)


def _report(root: str, held: Inventory, options: argparse.Namespace) -> Iterator[str]:
    source = held.manifest.source
    fetched = f", fetched {source.fetched_at}" if source.fetched_at else ""
    same = f", the same as of {held.manifest.same_as}" if held.manifest.same_as else ""
    yield f"{root}: {held.manifest.count:,} frames of {source.url}{fetched}{same}"
    for other in nights.same_as(root):
        yield f"  its frames are those of {other}, too"
    for group in held.groups:
        if group.files:
            stays = group.lasting and not options.all
            verdict = ("kept" if stays else "removed") if options.remove else ("kept by --remove" if stays else "")
            yield _line(group.label, len(group.files), group.bytes, verdict)
    going = [group for group in held.groups if options.all or not group.lasting]
    yield _line("together", sum(len(group.files) for group in held.groups), sum(group.bytes for group in held.groups))
    if not options.remove:
        yield _line("--remove would free", sum(len(group.files) for group in going), sum(g.bytes for g in going))
    if held.foreign:
        yield "  not named by the manifest, or not what it says, and left alone:"
    for path, size in list(held.foreign.items())[:MOST_SHOWN]:
        label = path.removeprefix(f"{root}/")
        yield f"    {label}/, a folder" if size is None else f"    {label}, {_bytes(size)}"
    if len(held.foreign) > MOST_SHOWN:
        rest = list(held.foreign.values())[MOST_SHOWN:]
        yield f"    … and {len(rest):,} more, {_bytes(sum(size or 0 for size in rest))}"


def _line(label: str, count: int, size: int, verdict: str = "") -> str:
    files = f"{count:,} file{'' if count == 1 else 's'}"
    return f"  {label:<36} {files:>14}  {_bytes(size):>34}  {verdict}".rstrip()


def _printable(line: str) -> str:
    """The line, in which no name of a file can make a terminal do anything."""
    return line if line.isprintable() else ascii(line)[1:-1]


def _bytes(size: int) -> str:
    return f"{size:,} bytes ({size / 1e6:,.1f} MB)"


if __name__ == "__main__":
    sys.exit(main())
