"""The GIFs that an animation is combined from: the frames themselves, or what they were converted to."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from itertools import repeat, tee

from imagetl_luigi import storage
from imagetl_luigi.errors import FrameError
from imagetl_luigi.manifest import Frame, Manifest
from imagetl_luigi.storage import Piece
from imagetl_luigi.workspace import Workspace


def read_gifs(manifest: Manifest, paths: Workspace) -> Generator[bytes]:
    """Yield the GIF of each frame, in order. Close it if you do not take all.

    In an object store nobody but us holds a lock, so what comes from there is held against the manifest; and while
    the data file that was split is there, the frames are read from it: a few large requests and not one for each.

    Raises:
        FrameError: a frame is not what the manifest says. Its file is removed, so that the next run writes it again.
    """
    remote = storage.is_remote(paths.frames)
    from_stream = remote and storage.fingerprint(paths.data_file) == manifest.fingerprint
    frames, again = tee(manifest.frames())
    pieces = map(_place, again, repeat(paths), repeat(from_stream))
    with contextlib.closing(storage.read_ahead(pieces)) as contents:
        for frame, data in zip(frames, contents, strict=True):
            if remote and frame.format == "gif" and hashlib.sha256(data).hexdigest() != frame.sha256:
                wrong = _place(frame, paths, from_stream).path
                if not from_stream:
                    storage.remove(wrong)
                raise FrameError(f"{frame.name} in {wrong} is not what the manifest says; run again")
            yield data


def _place(frame: Frame, paths: Workspace, from_stream: bool) -> Piece:
    """Where the GIF of a frame is found."""
    if frame.format != "gif":
        return Piece(paths.converted(frame.converted_name), 0, _longest_gif(frame))
    if from_stream:
        return Piece(paths.data_file, frame.offset, frame.length)
    return Piece(paths.frame(frame.name), 0, frame.length)


def _longest_gif(frame: Frame) -> int:
    """Bytes that the GIF of a picture has at the most: LZW writes 12 bits a pixel when it finds nothing to save."""
    return 4096 + 2 * (frame.width or 0) * (frame.height or 0)
