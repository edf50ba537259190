"""A layer of changes over files that stay as they are. What is written goes to a separate file, and can be applied later.

With it, a broker can start on a data directory without changing it. A file that was written to consists of its original,
up to a size, and of pieces over it, which are in the file `spill`, one after another. So memory holds only the positions of
the pieces, not their content.

`commit` applies the changes to the files below: renames first, then removals, then content. `changed_paths` says beforehand
which of the files below that writes to or removes, so that they can be copied.
"""

import errno
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from headwater.effects.buffers import Buffer
from headwater.effects.files import File, Files

COPY_BYTES = 1 << 20
NEW_SUFFIX = ".tmp"


class Piece(NamedTuple):
    """Bytes that were written over a file, and where they are: in the spill, or elsewhere in the original."""

    start: int
    end: int
    at: int
    is_of_base: bool = False


class Layer:
    """A file with its changes. `origin` is the path of the original; "" for a new file."""

    def __init__(self, overlay: "OverlayFiles", origin: str) -> None:
        self.overlay = overlay
        self.origin = origin
        self.base: File | None = overlay.files.open(origin) if origin else None
        self.size = self.base_end = self.base.size() if self.base is not None else 0
        self.pieces: list[Piece] = []
        self.is_changed = not origin

    def read(self, size: int, position: int) -> bytes:
        end = min(position + size, self.size)
        if end <= position:
            return b""
        content = bytearray(end - position)
        if self.base is not None and position < self.base_end:
            data = self.base.read(min(end, self.base_end) - position, position)
            content[: len(data)] = data
        for piece in self.pieces[max(0, bisect_right(self.pieces, (position,)) - 1) :]:
            if piece.start >= end:
                break
            start, stop = max(piece.start, position), min(piece.end, end)
            if start < stop:
                data = self.source(piece).read(stop - start, piece.at + start - piece.start)
                content[start - position : stop - position] = data
        return bytes(content)

    def source(self, piece: Piece) -> File:
        if not piece.is_of_base:
            return self.overlay.spill
        assert self.base is not None
        return self.base

    def replace(self, start: int, end: int, data: bytes) -> None:
        """Replaces a part of the file by `data`, and moves what follows."""
        tail, position, size = [], end, self.size
        for piece in [*self.pieces, Piece(size, size, 0)]:
            if self.base_end > position and piece.start > position:  # the original shows here
                stop = min(piece.start, self.base_end)
                tail.append(Piece(position, stop, position, is_of_base=True))
            if piece.end > max(end, piece.start):
                cut = max(0, end - piece.start)
                tail.append(piece._replace(start=piece.start + cut, at=piece.at + cut))
            position = max(position, piece.end)
        shift = len(data) - (end - start)
        self.truncate(start)
        self.write(data, start)
        self.pieces += [piece._replace(start=piece.start + shift, end=piece.end + shift) for piece in tail]
        self.size = size + shift

    @property
    def is_moved(self) -> bool:
        """Whether bytes of the original have moved. If so, it is written as a new file."""
        return any(piece.is_of_base for piece in self.pieces)

    def write(self, data: Buffer, position: int) -> None:
        if not len(data):
            return
        self.is_changed = True
        at = self.overlay.put(data)
        end = position + len(data)
        last = self.pieces[-1] if self.pieces else None
        if last is not None and not last.is_of_base and last.end == position and last.at + last.end - last.start == at:
            self.pieces[-1] = last._replace(end=end)
        else:
            self.leave_out(position, end)
            self.pieces.append(Piece(position, end, at))
            self.pieces.sort()
        self.size = max(self.size, end)

    def leave_out(self, start: int, end: int) -> None:
        """Cuts that range out of the pieces."""
        kept = []
        for piece in self.pieces:
            if piece.end <= start or piece.start >= end:
                kept.append(piece)
                continue
            if piece.start < start:
                kept.append(piece._replace(end=start))
            if piece.end > end:
                kept.append(piece._replace(start=end, at=piece.at + end - piece.start))
        self.pieces = kept

    def truncate(self, size: int) -> None:
        if size == self.size:
            return
        self.is_changed = True
        if size < self.size:
            self.leave_out(size, self.size)
            self.base_end = min(self.base_end, size)
        self.size = size


class OverlayFile:
    """An open file of the overlay."""

    __slots__ = ("layer",)

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def read(self, size: int, position: int) -> bytes:
        return self.layer.read(size, position)

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        for data in buffers:
            self.layer.write(data, position)
            position += len(data)

    def sync(self) -> None:
        """Does nothing: nothing of an overlay has to survive a power cut."""

    def truncate(self, size: int) -> None:
        self.layer.truncate(size)

    def size(self) -> int:
        return self.layer.size

    def close(self) -> None:
        """Does nothing: the layer holds what was written, so it stays open."""

    @property
    def descriptor(self) -> int:
        return -1


class OverlayLock:
    """A lock that needs no file: no other process sees the overlay."""

    def release(self) -> None:
        """Does nothing."""

    def is_in_place(self) -> bool:
        return True


class OverlayFiles:
    """See the module's docstring. `files` are only read until `commit`; `spill` is an empty file for what is written."""

    def __init__(self, files: Files, spill: File) -> None:
        self.files = files
        self.spill = spill
        self.layers: dict[str, Layer] = {}
        self.hidden: set[str] = set()  # paths below that were removed or renamed
        self.directories: set[str] = set()  # those that were made

    def put(self, data: Buffer) -> int:
        at = self.spill.size()
        self.spill.write([data], at)
        return at

    def layer(self, path: str) -> Layer | None:
        layer = self.layers.get(path)
        if layer is None and path not in self.hidden and self.is_below(path) and not self.is_directory(path):
            layer = self.layers[path] = Layer(self, path)
        return layer

    def is_below(self, path: str) -> bool:
        """Whether the path exists below, and its directory was not removed or renamed in the overlay."""
        parent = path
        while parent:
            if parent in self.hidden:
                return False
            parent = parent.rpartition("/")[0]
        return self.files.exists(path)

    def is_directory(self, path: str) -> bool:
        if path in self.directories:
            return True
        if path in self.layers or not self.is_below(path):
            return False
        try:
            self.files.list_directory(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def open(self, path: str, *, create: bool = False, pinned: bool = False) -> OverlayFile:
        layer = self.layer(path)
        if layer is None and create and self.is_directory(path.rpartition("/")[0]):
            layer = self.layers[path] = Layer(self, "")
        if layer is None:
            raise not_found(path)
        return OverlayFile(layer)

    def sync_path(self, path: str) -> None:
        if self.layer(path) is None:
            raise not_found(path)

    def exists(self, path: str) -> bool:
        return path in self.layers or path in self.directories or self.is_below(path)

    def list_directory(self, path: str) -> list[str]:
        if not self.is_directory(path):
            raise not_found(path)
        names = set(self.files.list_directory(path)) if self.is_below(path) else set()
        names = {name for name in names if f"{path}/{name}" not in self.hidden}
        for other in (*self.layers, *self.directories):
            parent, _, name = other.rpartition("/")
            if parent == path:
                names.add(name)
        return sorted(names)

    def make_directory(self, path: str) -> None:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            parent = "/".join(parts[:end])
            if parent and not self.is_directory(parent):
                if self.exists(parent):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), parent)
                self.directories.add(parent)

    def rights_of_others(self, path: str) -> int:
        return 0

    def restrict(self, path: str) -> None:
        """Does nothing: an overlay does not change rights."""

    def rename(self, source: str, target: str) -> None:
        if self.is_directory(source):
            self.make_directory(target)
            for name in self.list_directory(source):
                self.rename(f"{source}/{name}", f"{target}/{name}")
            self.remove(source)
            return
        layer = self.layer(source)
        if layer is None:
            raise not_found(source)
        del self.layers[source]
        self.hide(source)
        self.layers[target] = layer

    def remove(self, path: str) -> None:
        if self.is_directory(path):
            if self.list_directory(path):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
            self.directories.discard(path)
        elif self.layer(path) is None:
            raise not_found(path)
        self.layers.pop(path, None)
        self.hide(path)

    def hide(self, path: str) -> None:
        if self.files.exists(path):
            self.hidden.add(path)

    def sync_directory(self, path: str) -> None:
        if not self.is_directory(path):
            raise not_found(path)

    def stamp(self, path: str) -> tuple[int, ...]:
        layer = self.layer(path)
        if layer is None:
            raise not_found(path)
        return (0, id(layer), layer.size, len(layer.pieces))

    def lock(self, path: str, wait_ms: int = 0) -> OverlayLock:
        return OverlayLock()

    # -- applying the changes

    def changed_paths(self) -> list[str]:
        """The files below that `commit` will write to or remove, by their present paths."""
        written = {layer.origin for layer in self.layers.values() if layer.is_changed and layer.origin}
        written |= {path for path, layer in self.layers.items() if layer.origin != path and self.files.exists(path)}
        moved = {layer.origin for path, layer in self.layers.items() if layer.origin not in ("", path)}
        removed = {path for path in self.hidden if path not in moved and not is_directory(self.files, path)}
        return sorted(written | removed)

    def commit(self) -> list[str]:
        """Applies the changes below, durably. Returns the paths that are new, changed or gone. Raises OSError."""
        files, touched = self.files, set(self.changed_paths())
        for path in sorted(self.directories):
            files.make_directory(path)
        for path, layer in self.layers.items():
            if layer.origin not in ("", path):
                files.rename(layer.origin, path)
                touched |= {layer.origin, path}
        for path in sorted(self.hidden, reverse=True):  # the content of a directory comes before the directory
            if path not in self.layers and files.exists(path):
                files.remove(path)
        for path, layer in self.layers.items():
            if layer.is_changed:
                self.write(path, layer)
                touched.add(path)
        for directory in {path.rpartition("/")[0] for path in touched}:
            if files.exists(directory):
                files.sync_directory(directory)
        return sorted(touched)

    def write(self, path: str, layer: Layer) -> None:
        target = path + NEW_SUFFIX if layer.is_moved else path
        file = self.files.open(target, create=True)
        try:
            if layer.is_moved:
                file.truncate(0)
                for start in range(0, layer.size, COPY_BYTES):
                    file.write([layer.read(COPY_BYTES, start)], start)
            else:
                file.truncate(layer.base_end)
                file.truncate(layer.size)
                for piece in layer.pieces:
                    for start in range(piece.start, piece.end, COPY_BYTES):
                        size = min(COPY_BYTES, piece.end - start)
                        file.write([self.spill.read(size, piece.at + start - piece.start)], start)
            file.sync()
        finally:
            file.close()
        if layer.is_moved:
            self.files.rename(target, path)


def is_directory(files: Files, path: str) -> bool:
    try:
        files.list_directory(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def not_found(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
