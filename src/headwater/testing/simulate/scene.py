"""What everybody in a run shares: the world, the broker's process and its disk, the topics there are, and how far the run is.

Clients and the nemesis get the scene, and not the simulation, which puts them on it and judges what came of it. It also
knows what was damaged on purpose, so that a client that gets such an error does not report a defect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headwater.protocol.schema import ZERO_UUID
from headwater.testing.simulate.disk import SimulatedFiles
from headwater.testing.simulate.history import History
from headwater.testing.simulate.network import Link
from headwater.testing.simulate.node import Node
from headwater.testing.simulate.world import Process, World


@dataclass(slots=True, eq=False)
class TopicLife:
    """One life of a topic: a name may have several, each with its own label."""

    name: str
    partitions: int
    label: str
    topic_id: bytes = ZERO_UUID
    is_compacted: bool = False
    is_trimmed: bool = False
    may_be_gone: bool = False
    is_deleted: bool = False  # or may be


Place = tuple[TopicLife, int]


class Actor(Protocol):
    """Somebody who may have to finish something before the end of the run."""

    name: str
    is_busy: bool


class Scene:
    """See the module's docstring."""

    def __init__(self, world: World, files: SimulatedFiles, node: Node) -> None:
        self.world, self.files, self.node = world, files, node
        self.history = History()
        self.actors: list[Actor] = []
        self.topics: list[TopicLife] = []
        self.recycled: TopicLife | None = None  # the present life of the topic that is deleted and made again
        self.groups: dict[str, list[TopicLife]] = {}
        self.links: list[Link] = []
        self.connections = 0
        self.is_ending = False  # nothing more is begun, and nothing goes wrong
        self.is_over = False  # nothing is tried again either
        self.fragile: frozenset[str] = frozenset()  # topics whose files may be damaged
        self.damaged: set[tuple[str, int]] = set()
        self.named: set[tuple[str, int]] = set()  # damaged partitions for which a client got that error
        self.has_lost_checkpoint = False

    def connect(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> Link:
        """A connection to the broker; `received` gets each response frame, `lost` is called once at the end."""
        self.connections += 1
        link = Link(self.world, self.node, received, lost, self.connections)
        self.links.append(link)
        return link

    def open_links(self) -> list[Link]:
        self.links = [link for link in self.links if link.is_open]
        return self.links

    def add(self, actor: Actor, process: Process) -> None:
        """Has somebody begin."""
        self.actors.append(actor)
        self.world.start(process)

    def new_topic(self, name: str, partitions: int, *, label: str = "") -> TopicLife:
        topic = TopicLife(name, partitions, label or name)
        self.topics.append(topic)
        return topic

    def excuses(self, label: str, partition: int) -> bool:
        """Whether the partition's files were damaged on purpose: then a client may get an error for it."""
        if (label, partition) not in self.damaged:
            return False
        self.named.add((label, partition))
        return True

    @property
    def has_damage(self) -> bool:
        return bool(self.damaged)
