"""Draw a contact sheet: row by row, wherever there is somebody to draw, and then all rows together."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagetl_luigi.contact_sheet import LONGEST_SIDE, Layout, comment
from imagetl_luigi.errors import FrameError
from imagetl_luigi.gif import own_delay
from imagetl_luigi.shrinking import GREY, shrunk

_QUALITY = 82


@dataclass
class Findings:
    """What was seen of the frames while they were drawn.

    Attributes:
        delays: milliseconds that each is shown if nobody says otherwise.
        broken: positions of those that cannot be decoded.
    """

    delays: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)


def draw_row(frames: Iterable[tuple[bytes, int]], layout: Layout, step: int) -> bytes:
    """The tiles of a row as a PNG, in which a text says what was found.

    Args:
        frames: those of `layout.row(…, step)`, whole files of any format, each with its orientation (`exif`).
    """
    row = Image.new("RGB", (layout.columns * layout.width, layout.height), GREY)
    found = Findings()
    for position, (data, orientation) in enumerate(frames):
        found.delays.append(own_delay(data))
        tile, rest = divmod(position * step, layout.every)
        if rest:
            continue
        try:
            row.paste(shrunk(data, layout.scale, LONGEST_SIDE, orientation), (tile * layout.width, 0))
        except MemoryError:  # nothing is wrong with the frame
            raise
        except Exception:  # decoders raise what they like on damaged data
            found.broken.append(position)
    about = PngInfo()
    about.add_text("found", json.dumps(vars(found)))
    out = io.BytesIO()
    row.save(out, "PNG", pnginfo=about, compress_level=1)
    return out.getvalue()


def read_row(data: bytes, layout: Layout) -> tuple[Image.Image, Findings] | None:
    """The picture of a row and what was found; None if it is not whole, as after a power cut, or none of ours."""
    try:
        row: Image.Image = Image.open(io.BytesIO(data), formats=["PNG"])
        row.load()
        found = Findings(**json.loads(row.info["found"]))
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):  # Pillow raises the last, too
        return None
    return (row, found) if row.size == (layout.columns * layout.width, layout.height) else None


def join_rows(rows: Iterable[bytes], layout: Layout, step: int, mark: str) -> tuple[bytes, Findings]:
    """The sheet as a JPEG that bears the mark, and what was found in it.

    Returns:
        The file; and of the frames that were read the delays, of all frames the indexes of broken ones.

    Raises:
        FrameError: a row is not whole.
    """
    sheet = Image.new("RGB", (layout.columns * layout.width, layout.rows * layout.height), GREY)
    found = Findings()
    for number, data in enumerate(rows):
        read = read_row(data, layout)
        if read is None:
            raise FrameError(f"row {number + 1} of the contact sheet was damaged while it was used; run again")
        row, part = read
        sheet.paste(row, (0, number * layout.height))
        found.delays += part.delays
        found.broken += [layout.row(number, step)[position] for position in part.broken]
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=_QUALITY, comment=comment(mark))
    return out.getvalue(), found
