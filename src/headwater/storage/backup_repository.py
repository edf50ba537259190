"""Where backups are kept: pieces of files, each stored once under its checksum, and one manifest per backup.

    headwater-backups.json      says that the directory is a repository, and its format
    .lock                       held while a backup is made or backups are removed
    objects/AB/ABCDEF…          a piece of a file; its name is the SHA-256 of its content, so `sha256sum` can check it
    backups/ID.json             a manifest: every file of one backup, with its size, its pieces and their checksums; files
                                of up to 1 KiB are in the manifest itself. `sha256` is the checksum of the rest
    scratch/                    copies of the journal while a backup is made

A backup exists when its manifest has its final name. Before that every piece is synced and renamed to its final name, and
the directories are synced. So a killed backup leaves whole pieces that no manifest names, and files that end in `.tmp`. The
next backup uses the pieces that it needs, and removes the rest at its end. Nothing is removed while a manifest cannot be
read, because nobody knows which pieces it needs.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headwater.effects.files import Files, Lock, read_file, replace_file
from headwater.effects.work import Steps
from headwater.storage.errors import StorageError

FORMAT = 1
MARKER = "headwater-backups.json"
OBJECT_NAME = re.compile(r"[0-9a-f]{64}")
MANIFEST_NAME = re.compile(r"(?P<id>[0-9A-Za-z-]+)\.json")
DAMAGED_SUFFIX = ".damaged"
TEMPORARY_SUFFIX = ".tmp"
IN_MANIFEST_BYTES_MAX = 1024
PIECE_BYTES = 4 << 20


class BackupError(StorageError):
    """A backup cannot be made, read or restored. The message names the file."""


class Piece(NamedTuple):
    """A part of a file: the name of its object, and its size."""

    sha256: str
    size: int


@dataclass(slots=True)
class StoredFile:
    """One file of a backup. A small file has its `content` here, instead of pieces.

    `stamps` describe the state of the source. While they are the same, a later backup need not read the source again. For a
    segment they also say where its records end, and what is damaged in it.
    """

    path: str
    size: int
    pieces: list[Piece] = field(default_factory=list)
    content: bytes | None = None
    stamps: list[list[int]] = field(default_factory=list)
    end_offset: int = -1
    damages: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {"path": self.path, "size": self.size}
        if self.content is not None:
            values["content"] = base64.b64encode(self.content).decode()
            values["sha256"] = hashlib.sha256(self.content).hexdigest()
        else:
            values["pieces"] = [list(piece) for piece in self.pieces]
        if self.stamps:
            values["stamps"] = self.stamps
        if self.end_offset >= 0:
            values["end_offset"] = self.end_offset
        if self.damages:
            values["damages"] = self.damages
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "StoredFile":
        """Raises ValueError, KeyError and TypeError for anything that `to_json` does not write."""
        content = base64.b64decode(values["content"], validate=True) if "content" in values else None
        if content is not None and hashlib.sha256(content).hexdigest() != values["sha256"]:
            raise ValueError(f"{values['path']} has a wrong checksum")
        pieces = [Piece(str(name), int(size)) for name, size in values.get("pieces", ())]
        size = len(content) if content is not None else sum(piece.size for piece in pieces)
        if size != values["size"] or is_unsafe(values["path"]):
            raise ValueError(
                f"{values['path']} has {size} bytes instead of {values['size']}, or its path leads out of the directory"
            )
        if any(not OBJECT_NAME.fullmatch(piece.sha256) for piece in pieces):
            raise ValueError(f"{values['path']} has a piece without a checksum")
        stamps, damages = values.get("stamps", []), values.get("damages", [])
        return cls(values["path"], size, pieces, content, stamps, int(values.get("end_offset", -1)), damages)


def is_unsafe(path: str) -> bool:
    """Whether a path in a manifest leads out of the directory that is being restored."""
    return path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/"))


@dataclass(slots=True)
class Manifest:
    """A backup. `damages` are sentences about the source; `missing` are partitions that had no files."""

    backup_id: str
    started_ms: int
    source: str
    cluster_id: str
    files: list[StoredFile] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    duration_ms: int = 0
    new_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def pieces(self) -> set[Piece]:
        return {piece for file in self.files for piece in file.pieces}

    def content(self) -> bytes:
        """The manifest as a file."""
        backup = {
            "id": self.backup_id,
            "started_ms": self.started_ms,
            "duration_ms": self.duration_ms,
            "source": self.source,
            "cluster_id": self.cluster_id,
            "new_bytes": self.new_bytes,
            "damages": self.damages,
            "files": [file.to_json() for file in self.files],
        }
        return json.dumps({"version": FORMAT, "sha256": body_checksum(backup), "backup": backup}).encode()

    @classmethod
    def read(cls, content: bytes) -> "Manifest":
        """Raises ValueError for anything but a sound manifest of this format."""
        try:
            values = json.loads(content)
            if values["version"] != FORMAT:
                raise ValueError(f"it has version {values['version']!r}, but this Headwater reads version {FORMAT}")
            backup = values["backup"]
            if body_checksum(backup) != values["sha256"]:
                raise ValueError("its checksum is wrong")
            files = [StoredFile.from_json(file) for file in backup["files"]]
            ids = backup["id"], backup["started_ms"], backup["source"], backup["cluster_id"]
            return cls(*ids, files, backup["damages"], backup["duration_ms"], backup["new_bytes"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is not a manifest: {error!r}") from error


def body_checksum(backup: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(backup, sort_keys=True).encode()).hexdigest()


class Repository:
    """See the module's docstring."""

    def __init__(self, files: Files, path: str, *, create: bool = False) -> None:
        self.files = files
        self.path = path
        self.objects: set[str] = set()  # pieces that exist
        self.new: set[Piece] = set()  # pieces that this run has stored
        self.lock: Lock | None = None
        marker = f"{path}/{MARKER}"
        if not files.exists(marker):
            if not create:
                raise BackupError(f"{path} is not a backup repository: it has no {MARKER}")
            files.make_directory(path)
            others = [name for name in files.list_directory(path) if name not in (".lock", MARKER + TEMPORARY_SUFFIX)]
            if others:
                raise BackupError(f"{path} is neither empty nor a backup repository; choose another directory")
            replace_file(files, marker, json.dumps({"format": FORMAT}).encode())
            files.sync_directory(path.rpartition("/")[0] or ".")
        try:
            known = json.loads(read_file(files, marker)).get("format")
        except (ValueError, AttributeError) as error:
            raise BackupError(f"{marker} cannot be read: {error}") from error
        if known != FORMAT:
            raise BackupError(f"{path} has format {known!r}, but this Headwater reads format {FORMAT}")

    # -- pieces

    def take_lock(self) -> None:
        """Locks the repository, and lists its pieces. Raises BackupError and OSError."""
        try:
            self.lock = self.files.lock(f"{self.path}/.lock")
        except BlockingIOError:
            raise BackupError(f"{self.path} is in use by another backup; try again when it has ended") from None
        for name in ("objects", "backups", "scratch"):
            self.files.make_directory(f"{self.path}/{name}")
        self.objects = {name for folder in self.folders() for name in self.names(folder) if OBJECT_NAME.fullmatch(name)}

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def folders(self) -> list[str]:
        try:
            return [f"{self.path}/objects/{name}" for name in self.files.list_directory(f"{self.path}/objects")]
        except FileNotFoundError:
            return []

    def names(self, folder: str) -> list[str]:
        try:
            return self.files.list_directory(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def object_path(self, name: str) -> str:
        return f"{self.path}/objects/{name[:2]}/{name}"

    def put(self, data: bytes) -> Piece:
        """Stores a piece unless it exists; only its name is not durable yet. Raises BackupError if that fails."""
        name = hashlib.sha256(data).hexdigest()
        piece = Piece(name, len(data))
        if name in self.objects:
            return piece
        path = self.object_path(name)
        try:
            self.files.make_directory(path.rpartition("/")[0])
            file = self.files.open(path + TEMPORARY_SUFFIX, create=True, pinned=True)
            try:
                file.truncate(0)
                file.write([data], 0)
                file.sync()
            finally:
                file.close()
            self.files.rename(path + TEMPORARY_SUFFIX, path)
        except OSError as error:
            raise BackupError(f"{path} cannot be written: {error.strerror}") from error
        self.objects.add(name)
        self.new.add(piece)
        return piece

    @property
    def new_bytes(self) -> int:
        return sum(piece.size for piece in self.new)

    def has_all(self, file: StoredFile) -> bool:
        return all(piece.sha256 in self.objects for piece in file.pieces)

    def piece(self, piece: Piece) -> bytes:
        """Returns a piece. Raises BackupError if it is missing or not what was stored."""
        path = self.object_path(piece.sha256)
        try:
            data = read_file(self.files, path)
        except FileNotFoundError:
            raise BackupError(f"{path} is missing") from None
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}") from error
        if len(data) != piece.size or hashlib.sha256(data).hexdigest() != piece.sha256:
            raise BackupError(f"{path} is damaged")
        return data

    def read(self, file: StoredFile) -> bytes:
        """Returns a whole file. Raises BackupError."""
        return file.content if file.content is not None else b"".join(self.piece(piece) for piece in file.pieces)

    # -- manifests

    def manifest_path(self, backup_id: str) -> str:
        return f"{self.path}/backups/{backup_id}.json"

    def backup_ids(self) -> list[str]:
        """The ids of all backups, oldest first."""
        matches = map(MANIFEST_NAME.fullmatch, self.names(f"{self.path}/backups"))
        return sorted(match["id"] for match in matches if match is not None)

    def manifest(self, backup_id: str) -> Manifest:
        """Reads a manifest. Raises BackupError."""
        path = self.manifest_path(backup_id)
        try:
            return Manifest.read(read_file(self.files, path))
        except FileNotFoundError:
            known = self.backup_ids()
            hint = f"the newest is {known[-1]}" if known else "it has none"
            raise BackupError(f"{self.path} has no backup {backup_id}; {hint}") from None
        except ValueError as error:
            raise BackupError(f"{path} is damaged: {error}") from error

    def newest(self) -> Manifest | None:
        """The newest backup whose manifest can be read."""
        for backup_id in reversed(self.backup_ids()):
            try:
                return self.manifest(backup_id)
            except BackupError:
                continue
        return None

    def commit(self, manifest: Manifest) -> None:
        """Makes a backup exist, by writing its manifest. Raises BackupError and OSError."""
        names = {piece.sha256 for piece in manifest.pieces}
        try:
            for folder in sorted({name[:2] for name in names}):
                self.files.sync_directory(f"{self.path}/objects/{folder}")
            for folder in ("objects", "scratch", "backups", ""):
                self.files.sync_directory(f"{self.path}/{folder}".rstrip("/"))
            replace_file(self.files, self.manifest_path(manifest.backup_id), manifest.content())
        except OSError as error:
            path = self.manifest_path(manifest.backup_id)
            raise BackupError(f"{path} cannot be written: {error.strerror}") from error

    # -- removal

    def keep_newest(self, count: int) -> list[str]:
        """Removes all backups but the newest; returns the ids of those removed. Raises BackupError and OSError."""
        ids = self.backup_ids()
        for backup_id in ids:
            self.manifest(backup_id)  # a backup that cannot be read may be the only good one that a user counts on
        gone = ids[:-count]
        for backup_id in gone:
            self.files.remove(self.manifest_path(backup_id))
        if gone:
            self.files.sync_directory(f"{self.path}/backups")
        return gone

    def remove_unused(self) -> int:
        """Removes pieces that no backup needs, and what killed backups left behind; returns the number of bytes.

        Raises BackupError if a manifest cannot be read, and OSError.
        """
        manifests = [self.manifest(backup_id) for backup_id in self.backup_ids()]
        used = {piece.sha256 for manifest in manifests for piece in manifest.pieces}
        freed = 0
        for folder in [*self.folders(), f"{self.path}/backups", f"{self.path}/scratch"]:
            is_scratch = folder.endswith("/scratch")
            for name in self.names(folder):
                if (OBJECT_NAME.fullmatch(name) and name not in used) or name.endswith(TEMPORARY_SUFFIX) or is_scratch:
                    freed += self.files.stamp(f"{folder}/{name}")[2]
                    self.files.remove(f"{folder}/{name}")
                    self.objects.discard(name)
        return freed

    # -- checking

    def verify(self, manifests: Iterable[Manifest]) -> Steps[list[str]]:
        """Reads every piece of these backups; returns the problems, each with a file that needs the piece.

        A damaged piece is renamed. So the next backup stores it again, if the source still has it.
        """
        users: dict[Piece, str] = {}
        for manifest in manifests:
            for file in manifest.files:
                for piece in file.pieces:
                    users.setdefault(piece, f"{file.path} of {manifest.backup_id}")
        problems = []
        for piece, user in sorted(users.items()):
            try:
                self.piece(piece)
            except BackupError as error:
                path = self.object_path(piece.sha256)
                if str(error).endswith("is damaged"):
                    self.files.rename(path, path + DAMAGED_SUFFIX)
                problems.append(f"{error}: {user} needs it")
            yield
        return problems


def restore_backup(repository: Repository, manifest: Manifest, files: Files, directory: str) -> Steps[int]:
    """Restores a backup into a directory that is empty or does not exist; returns the number of bytes.

    Every piece is checked when it is read. `meta.properties` is written last: a broker does not start in a directory that
    has logs but no `meta.properties`. Raises BackupError and OSError.
    """
    if files.exists(directory) and files.list_directory(directory):
        raise BackupError(f"{directory} is not empty: restore into a new directory, or move its content away")
    files.make_directory(directory)
    files.restrict(directory)
    lock = files.lock(f"{directory}/.lock")
    total = 0
    try:
        last = [file for file in manifest.files if file.path == "meta.properties"]
        if not last:
            raise BackupError(f"backup {manifest.backup_id} has no meta.properties, so it cannot be restored")
        folders = {directory}
        for file in [*(file for file in manifest.files if file.path != "meta.properties"), *last]:
            path = f"{directory}/{file.path}"
            if file is last[0]:
                for folder in sorted(folders):
                    files.sync_directory(folder)
            folders.add(path.rpartition("/")[0])
            files.make_directory(path.rpartition("/")[0])
            yield from write_restored(repository, file, files, path)
            total += file.size
        files.sync_directory(directory)
        files.sync_directory(directory.rpartition("/")[0] or ".")
    finally:
        lock.release()
    return total


def write_restored(repository: Repository, file: StoredFile, files: Files, path: str) -> Steps[None]:
    try:
        target = files.open(path, create=True, pinned=True)
        try:
            position = 0
            for piece in file.pieces:
                target.write([repository.piece(piece)], position)
                position += piece.size
                yield
            if file.content is not None:
                target.write([file.content], 0)
            target.sync()
        finally:
            target.close()
    except BackupError as error:
        raise BackupError(f"{file.path} cannot be restored: {error}; restore another backup") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror}") from error
    yield
