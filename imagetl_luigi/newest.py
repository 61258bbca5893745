"""The newest picture of a workspace: its last frame, wherever that still is."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from imagetl_luigi import nights, storage
from imagetl_luigi.errors import FrameError, ManifestError
from imagetl_luigi.exif import UPRIGHT
from imagetl_luigi.manifest import Frame, Manifest, read_manifest
from imagetl_luigi.storage import Piece
from imagetl_luigi.workspace import Workspace

ALLOWED = "[limits] frame_bytes allows {:,}"


def newest_picture(place: str, gif: str, most: int) -> tuple[bytes, int]:
    """The last frame of the workspace `place`, byte for byte, and its orientation (`exif`).

    If it is not there any more, it is the last picture of its GIF.

    Args:
        gif: name of its animation; empty if it has none.
        most: bytes that a picture may have.

    Raises:
        FrameError: there is neither.
        StorageError: one of them cannot be read.
    """
    manifest = read_manifest(Workspace(place, "", "").manifest)
    with contextlib.suppress(ManifestError):  # damaged behind its head: the GIF may be whole
        frame = manifest.last_frame() if manifest else None
        if frame and frame.length > most:
            raise FrameError(f"the newest picture of {place} has {frame.length:,} bytes; {ALLOWED.format(most)}")
        for piece in _pieces(place, manifest, frame) if manifest and frame else ():
            data = _read(piece)
            if frame and hashlib.sha256(data).hexdigest() == frame.sha256:
                return data, frame.orientation
    if not gif:
        raise FrameError(f"{place} has no picture: its frames and its data file are gone; run its workflow again")
    with contextlib.closing(storage.open_read(os.path.join(place, gif))) as animation:
        return last_picture(animation, os.path.join(place, gif), most), UPRIGHT


def last_picture(animation: BinaryIO, name: str, most: int) -> bytes:
    """A GIF of the last picture of an animation of ours, which is walked block by block (GIF89a, sections 17 to 27).

    One picture is held at a time. In an animation of ours a picture does not need those before it.

    Raises:
        FrameError: it is no whole GIF, or has a picture of more than `most` bytes; the message names it by `name`.
    """
    head = _take(animation, 13, name)
    if not head.startswith(b"GIF8"):
        raise _damaged(name)
    head += _table(animation, head[10], name)
    control = picture = b""
    while (kind := animation.read(1)) != b";":
        if kind == b"!":
            label = _take(animation, 1, name)
            blocks = _sub_blocks(animation, name, most)
            if label == b"\xf9":
                control = kind + label + blocks
        elif kind == b",":
            descriptor = _take(animation, 9, name)
            local = _table(animation, descriptor[8], name)
            picture = (
                control + kind + descriptor + local + _take(animation, 1, name) + _sub_blocks(animation, name, most)
            )
            control = b""
        else:
            raise _damaged(name)
    return head + picture + b";"


def _pieces(place: str, manifest: Manifest, frame: Frame) -> Iterator[Piece]:
    """Where the frame may be: in its own file or the data file, here or in the night whose frames these are."""
    roots = [place]
    other = nights.parse(manifest.same_as)
    if other:
        roots.append(nights.workspace(os.path.dirname(place), other))
    for root in roots:
        paths = Workspace(root, os.path.join(root, "image-data.img"), "")
        yield Piece(paths.frame(frame.name), 0, frame.length)
        yield Piece(paths.data_file, frame.offset, frame.length)


def _read(piece: Piece) -> bytes:
    """The bytes, or none where the file is not there or too short: a manifest may say anything."""
    found = storage.stat(piece.path)
    enough = found is not None and piece.offset >= 0 and 0 < piece.length <= found.size - piece.offset
    return storage.read_range(*piece) if enough else b""


def _table(animation: BinaryIO, packed: int, name: str) -> bytes:
    """The colour table that follows, if there is one."""
    return _take(animation, 6 << (packed & 7), name) if packed & 0x80 else b""


def _sub_blocks(animation: BinaryIO, name: str, most: int) -> bytes:
    """The data sub-blocks that follow, with their sizes and the terminator (section 15)."""
    blocks = bytearray()
    while len(blocks) <= most:
        count = _take(animation, 1, name)
        if count == b"\0":
            return bytes(blocks + count)
        blocks += count + _take(animation, count[0], name)
    raise FrameError(f"a picture of {name} is too large; {ALLOWED.format(most)}")


def _take(animation: BinaryIO, count: int, name: str) -> bytes:
    data = animation.read(count)
    if len(data) < count:
        raise _damaged(name)
    return data


def _damaged(name: str) -> FrameError:
    return FrameError(f"{name} is not a whole GIF; remove it and run again")
