"""Which names and which bytes are on disk for sure, after the calls so far.

A sync covers what had ended when the sync began, and counts when it has ended. A file's bytes are durable when a sync of
the file covers its last write. A name is durable when a sync of the directory covers the call that made it, and the same
holds for every directory above. This is stricter than ext4, where the sync of a new file also saves its name.
"""

from collections.abc import Iterator

NEVER = -1


class Node:
    """A file or a directory. Times are line numbers."""

    def __init__(self, name: str, parent: "Node | None", *, is_directory: bool, named_at: int) -> None:
        self.name = name
        self.parent = parent
        self.is_directory = is_directory
        self.named_at = named_at
        self.changed_at = NEVER  # the end of the last write; of a directory, the last change of a name in it
        self.synced_from = NEVER  # the start of the newest sync that has ended
        self.is_removed = False
        self.children: dict[str, Node] = {}
        self.content = bytearray()  # of small files

    @property
    def has_durable_content(self) -> bool:
        return self.changed_at <= self.synced_from

    @property
    def has_durable_name(self) -> bool:
        """Whether its name and those of all directories above are on disk."""
        node = self
        while node.parent is not None:
            if node.named_at > node.parent.synced_from:
                return False
            node = node.parent
        return True

    @property
    def path(self) -> str:
        return f"{self.parent.path}/{self.name}" if self.parent is not None else self.name

    def below(self) -> "Iterator[Node]":
        for child in self.children.values():
            yield child
            yield from child.below()


class Disk:
    """The tree from the parent of the data directory on; that one is there from the beginning."""

    def __init__(self, top: str) -> None:
        self.top = Node(top, None, is_directory=True, named_at=NEVER)

    def find(self, path: str) -> Node | None:
        node: Node | None = self.top
        for name in self.names(path):
            if node is None:
                return None
            node = node.children.get(name)
        return node

    def names(self, path: str) -> list[str]:
        if path == self.top.name:
            return []
        assert path.startswith(self.top.name + "/"), path
        return path[len(self.top.name) + 1 :].split("/")

    def directory_of(self, path: str) -> Node:
        found = self.find(path.rpartition("/")[0])
        assert found is not None, f"{path} is in a directory that nobody made"
        return found

    def make(self, path: str, at: int, *, is_directory: bool) -> Node:
        """The node of that name, which is new unless it is there."""
        directory, name = self.directory_of(path), path.rpartition("/")[2]
        node = directory.children.get(name)
        if node is None:
            node = directory.children[name] = Node(name, directory, is_directory=is_directory, named_at=at)
            directory.changed_at = at
        return node

    def rename(self, path: str, target: str, at: int) -> Node:
        source_directory, directory = self.directory_of(path), self.directory_of(target)
        node = source_directory.children.pop(path.rpartition("/")[2])
        node.name, node.parent, node.named_at = target.rpartition("/")[2], directory, at
        replaced = directory.children.get(node.name)
        if replaced is not None:
            replaced.is_removed = True
        directory.children[node.name] = node
        source_directory.changed_at = directory.changed_at = at
        return node

    def remove(self, path: str, at: int) -> Node:
        directory = self.directory_of(path)
        node = directory.children.pop(path.rpartition("/")[2])
        node.is_removed = True
        directory.changed_at = at
        return node
