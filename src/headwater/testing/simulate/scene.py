"""What all actors of a run share: the world, the broker's process and its disk, the topics, and the progress of the run.

Clients and the nemesis get the scene, not the simulation, which creates them and judges the result. The scene also knows
which files were damaged on purpose, so that a client does not report an error about them as a defect.
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
    is_deleted: bool = False  # also True if its deletion was not confirmed


Place = tuple[TopicLife, int]


class Actor(Protocol):
    """A client that may have work to finish before the end of the run."""

    name: str
    is_busy: bool


class Scene:
    """See the module's docstring."""

    def __init__(self, world: World, files: SimulatedFiles, node: Node) -> None:
        self.world, self.files, self.node = world, files, node
        self.history = History()
        self.actors: list[Actor] = []
        self.topics: list[TopicLife] = []
        self.recycled: TopicLife | None = None  # the present life of the topic that is deleted and recreated
        self.groups: dict[str, list[TopicLife]] = {}
        self.links: list[Link] = []
        self.connections = 0
        self.is_ending = False  # nothing new begins, and nothing more goes wrong
        self.is_over = False  # nothing is retried either
        self.fragile: frozenset[str] = frozenset()  # topics whose files may be damaged
        self.damaged: set[tuple[str, int]] = set()
        self.named: set[tuple[str, int]] = set()  # damaged partitions for which a client got an error
        self.has_lost_checkpoint = False

    def connect(self, received: Callable[[bytes], None], lost: Callable[[], None]) -> Link:
        """A connection to the broker; `received` gets each response frame; `lost` is called once, at the end."""
        self.connections += 1
        link = Link(self.world, self.node, received, lost, self.connections)
        self.links.append(link)
        return link

    def open_links(self) -> list[Link]:
        self.links = [link for link in self.links if link.is_open]
        return self.links

    def add(self, actor: Actor, process: Process) -> None:
        """Starts the process of an actor."""
        self.actors.append(actor)
        self.world.start(process)

    def new_topic(self, name: str, partitions: int, *, label: str = "") -> TopicLife:
        topic = TopicLife(name, partitions, label or name)
        self.topics.append(topic)
        return topic

    def excuses(self, label: str, partition: int) -> bool:
        """Whether the partition's files were damaged on purpose: then a client may get an error for this partition."""
        if (label, partition) not in self.damaged:
            return False
        self.named.add((label, partition))
        return True

    @property
    def has_damage(self) -> bool:
        return bool(self.damaged)
