"""manifest.json: what Split found, one line a frame, for the stages that follow.

    {
    "schema": 2,
    "source": {"url": …, "etag": …, "last_modified": …, "length": …, "sha256": …, "fetched_at": …},
    "fingerprint": …,  "delimiter": …,  "count": …,  "formats": {"gif": …},
    "width": …,  "height": …,  "opaque": …,  "digest": …,  "same_as": …,
    "frames": [
    {"index": 0, "name": "frame_00.gif", "offset": 0, "length": …, "format": …, "width": …, "height": …, "sha256": …},
    …
    ]}

Width and height are those of pictures as they are shown. A frame that is turned for it has its "orientation", too (see
`exif`). A schema of 1 is that of older versions, which did not look for it; what they say of other formats than JPEG
and PNG holds.

It is written and read as a stream: what concerns all frames stands in the first lines, and nobody
holds a hundred thousand frames in memory. `digest` depends on the frames alone, not on where they came from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, BinaryIO, NamedTuple

from imagetl_luigi import storage
from imagetl_luigi.errors import ManifestError
from imagetl_luigi.exif import ORIENTATIONS, UPRIGHT
from imagetl_luigi.formats import EXTENSIONS, TURNABLE
from imagetl_luigi.settings import MiB
from imagetl_luigi.source import Source
from imagetl_luigi.split import Span

SCHEMA = 2
_READABLE = (1, SCHEMA)
_LONGEST_HEADER = 64 * 1024
_LONGEST_LINE = 4 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 50  # bytes, pixels or frames
_FRAMES = b'"frames": [\n'
_END = b"]}\n"


class Frame(NamedTuple):
    """One frame: file name, byte range in the data file, and what it is."""

    index: int  # type: ignore[assignment]  # as in the file; tuple.index is not used
    name: str
    offset: int
    length: int
    format: str
    width: int | None
    height: int | None
    sha256: str
    orientation: int = UPRIGHT

    @property
    def converted_name(self) -> str:
        """File name of the GIF that is made of it, if it is none: by its content, and how it is turned."""
        turn = "" if self.orientation == UPRIGHT else f"-{self.orientation}"
        return f"{self.sha256}{turn}.gif"


_TYPES = {(int, str, int, int, str, size, size, str, int) for size in (int, NoneType)}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What concerns all frames. `frames()` reads them.

    Attributes:
        schema: of the file.
        fingerprint: of the data file that was split (`storage.fingerprint`).
        delimiter: with escapes, as the parameter is given.
        formats: how many frames there are of each format.
        width, height: pixels of a canvas that holds every frame, as it is shown.
        opaque: every frame is a GIF that paints the whole canvas.
        digest: SHA-256 over the SHA-256 and format of the frames, and how they are turned, in order.
        same_as: the night whose frames these are, if none were fetched for this one; see `nights`.
    """

    path: str
    schema: int
    source: Source
    fingerprint: str
    delimiter: str
    count: int
    formats: dict[str, int]
    width: int
    height: int
    opaque: bool
    digest: str
    same_as: str | None = None

    @property
    def outdated(self) -> bool:
        """Whether an older version wrote it, which took no picture for turned, and there may be some."""
        return self.schema < SCHEMA and not TURNABLE.isdisjoint(self.formats)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order.

        Raises:
            ManifestError: they are not those that Split wrote; told at the last frame at the latest.
        """
        digest = hashlib.sha256()
        count = 0
        with storage.open_read(self.path) as file:
            self.pass_head(file)
            for line in file:
                if line == _END:
                    break
                frame = self._frame(line, count)
                digest.update(_digest_line(frame))
                count += 1
                yield frame
        if count != self.count or digest.hexdigest() != self.digest:
            raise self._damaged(f"its {count} frames are not the {self.count} that its digest was made from")

    def last_frame(self) -> Frame:
        """The last frame, by a short read. Raises ManifestError if the file does not end with it."""
        size = storage.size(self.path)
        tail = storage.read_range(self.path, max(0, size - _LONGEST_LINE), _LONGEST_LINE)
        *_, line, end = [b"", b"", *tail.splitlines(keepends=True)]
        if end != _END:
            raise self._damaged("it breaks off")
        return self._frame(line, self.count - 1)

    def pass_head(self, file: BinaryIO) -> None:
        """Read the file, opened anew, up to its frames. Raises ManifestError if they are others by now."""
        digest = None
        for line in file:
            if line.startswith(b'"digest": '):
                digest = str(_loads(line.removeprefix(b'"digest": ').rstrip(b",\n")))
            if line == _FRAMES:
                break
        if digest != self.digest:
            raise ManifestError(f"{self.path} was replaced by another run; run again")

    def _frame(self, line: bytes, index: int) -> Frame:
        found = _loads(line.rstrip(b",\n"))
        try:
            frame = Frame(**found)
        except TypeError:
            frame = None
        if frame is None or tuple(map(type, frame)) not in _TYPES or frame.orientation not in ORIENTATIONS:
            raise self._damaged(f"frame {index} cannot be read")
        if not _SHA256.fullmatch(frame.sha256):  # it becomes a file name, which must not lead elsewhere
            raise self._damaged(f"frame {index} has {frame.sha256!r} for a SHA-256")
        if frame.index != index or frame.name != frame_name(index, self.count, frame.format):
            raise self._damaged(f"frame {index} is listed as frame {frame.index}, {frame.name!r}")
        return frame

    def _damaged(self, what: str) -> ManifestError:
        return ManifestError(f"{self.path} is damaged: {what}; remove it and run again")


def frame_name(index: int, count: int, format: str) -> str:
    """File name of a frame: at least two digits, as many as `count` frames need, so that names sort.

    >>> frame_name(7, 27, "gif"), frame_name(7, 1001, "jpeg")
    ('frame_07.gif', 'frame_0007.jpg')
    """
    return f"frame_{index:0{max(2, len(str(count - 1)))}d}.{EXTENSIONS.get(format, 'bin')}"


def write_manifest(path: str, spans: Iterable[Span], *, source: Source, fingerprint: str, delimiter: str) -> int:
    """Write the manifest of the frames `spans`, whole or not at all; return their number.

    The frames wait in a temporary file for their count, which their names depend on.
    """
    digest = hashlib.sha256()
    count = width = height = 0
    first: Span | None = None
    alike = True
    formats: Counter[str] = Counter()
    with tempfile.SpooledTemporaryFile(8 * MiB, "w+", encoding="ascii") as spool, storage.atomic_write(path) as file:
        for span in spans:
            digest.update(_digest_line(span))
            spool.write(_half_line(span))
            count += 1
            width, height = max(width, span.width or 0), max(height, span.height or 0)
            formats[span.format] += 1
            first = first or span
            alike = alike and span.opaque and (span.width, span.height) == (first.width, first.height)
        head = {
            "schema": SCHEMA,
            "source": asdict(source),
            "fingerprint": fingerprint,
            "delimiter": delimiter,
            "count": count,
            "formats": formats,
            "width": width,
            "height": height,
            "opaque": alike and count > 0,
            "digest": digest.hexdigest(),
            "same_as": None,
        }
        file.write(_head(head))
        spool.seek(0)
        for index, line in enumerate(spool):
            file.write(_line(line, index, count))
        file.write(_END)
    return count


def copy_manifest(manifest: Manifest, path: str, *, source: Source, same_as: str) -> None:
    """Write a manifest of the same frames from this source at `path`, whole or not at all."""
    kept = [field.name for field in fields(manifest) if field.name not in ("path", "schema", "source", "same_as")]
    same = {name: getattr(manifest, name) for name in kept}
    with contextlib.closing(storage.open_read(manifest.path)) as original, storage.atomic_write(path) as file:
        manifest.pass_head(original)
        file.write(_head({"schema": manifest.schema, "source": asdict(source), **same, "same_as": same_as}))
        shutil.copyfileobj(original, file, MiB)


def read_manifest(path: str) -> Manifest | None:
    """The manifest at `path` without its frames, or None where there is none or it is of another make."""
    return read_head(path) if storage.exists(path) else None


def read_head(path: str) -> Manifest | None:
    """As `read_manifest`, for a file that a listing has shown: a request less. Raises StorageError if it is gone."""
    head, found, _ = storage.read_range(path, 0, _LONGEST_HEADER).partition(_FRAMES)
    if not found:
        return None
    match _loads(head.rstrip(b",\n") + b"}"):
        case {
            "schema": int(schema),
            "source": {"url": str(), "length": int(), "sha256": str()} as source,
            "fingerprint": str(),
            "delimiter": str(),
            "count": int(count),
            "formats": dict(formats),
            "width": int(width),
            "height": int(height),
            "opaque": bool(),
            "digest": str(),
        } as found if schema in _READABLE and _plausible(source, formats, count, width, height):
            try:
                return Manifest(path=path, **found | {"source": Source(**source)})
            except TypeError:  # a field too many
                return None
    return None


def _plausible(source: dict[str, Any], formats: dict[str, Any], *numbers: int) -> bool:
    """Whether what concerns all frames can be: somebody may have edited it."""
    counts = [*numbers, source["length"], *formats.values()]
    texts = [source.get(name) for name in ("etag", "last_modified", "validator", "location", "fetched_at")]
    return (
        all(isinstance(number, int) and 0 <= number <= _LARGEST for number in counts)
        and all(isinstance(text, str | None) for text in texts)
        and formats.keys() <= EXTENSIONS.keys()
    )


def _loads(text: bytes) -> Any:
    """The JSON value, or None for what is none."""
    try:
        return json.loads(text.decode())  # it would look for UTF-16 in bytes
    except (ValueError, RecursionError):
        return None


def _head(head: dict[str, Any]) -> bytes:
    """All that comes before the frames."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    return "".join(["{\n", *lines]).encode("ascii") + _FRAMES


def _digest_line(frame: Frame | Span) -> bytes:
    turn = "" if frame.orientation == UPRIGHT else f" {frame.orientation}"  # what is not turned is as it always was
    return f"{frame.sha256} {frame.format}{turn}\n".encode("ascii", "backslashreplace")


def _half_line(span: Span) -> str:
    """The line of a frame whose name is not known yet, behind its format; a tenth of the cost of json.dumps."""
    width, height = ("null", "null") if span.width is None else (span.width, span.height)
    turn = "" if span.orientation == UPRIGHT else f', "orientation": {span.orientation}'
    return (
        f'{span.format} "offset": {span.offset}, "length": {span.length}, "format": "{span.format}", '
        f'"width": {width}, "height": {height}, "sha256": "{span.sha256}"{turn}}}\n'
    )


def _line(half_line: str, index: int, count: int) -> bytes:
    format, _, rest = half_line.partition(" ")
    comma = "," if index < count - 1 else ""
    return f'{{"index": {index}, "name": "{frame_name(index, count, format)}", {rest[:-1]}{comma}\n'.encode("ascii")
