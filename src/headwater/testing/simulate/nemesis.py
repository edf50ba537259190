"""What goes wrong, and when: power cuts, kills, clean stops, broken connections, disk faults, clock jumps and flipped bits."""

import errno

from headwater.effects.memory_files import Inode
from headwater.protocol.records import LOG_OVERHEAD
from headwater.storage.checkpoints import LOG_STARTS, RECOVERY_POINTS
from headwater.testing.simulate.node import DIRECTORY
from headwater.testing.simulate.scene import Scene
from headwater.testing.simulate.world import Process

CALLS_UNTIL_CUT_MAX = 150
AGAIN_CHANCE = 0.25
WALL_OFFSET_MS_MAX = 25 * 60_000
JUMP_MS_MAX = 20 * 60_000
FLIPS_MAX = 3
PARTITION_METADATA = "partition.metadata"  # only a log's directory has one


def unprotected_bytes(content: bytes) -> set[int]:
    """The positions of the bytes that no checksum covers: by the format, each batch's base offset and leader epoch."""
    positions: set[int] = set()
    start = 0
    while start + LOG_OVERHEAD <= len(content):
        positions.update(range(start, start + 8), range(start + LOG_OVERHEAD, start + LOG_OVERHEAD + 4))
        start += LOG_OVERHEAD + max(1, int.from_bytes(content[start + 8 : start + LOG_OVERHEAD]))
    return positions


class Nemesis:
    """See the module's docstring. Each method is a process that ends with the run's active part."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.world, self.node, self.files = scene.world, scene.node, scene.files
        self.random = scene.world.random
        self.loses_files = self.world.chance(0.5)

    def sleep(self, mean_ms: float) -> Process:
        yield from self.world.sleep(min(self.random.expovariate(1 / mean_ms), 5 * mean_ms))

    @property
    def is_active(self) -> bool:
        return not self.scene.is_ending

    def crash(self, mean_ms: float) -> Process:
        while True:
            yield from self.sleep(mean_ms)
            if not self.is_active:
                return
            how = self.random.random()
            if how < 0.35:
                self.node.power_cut()
            elif how < 0.7:
                if self.node.core is not None:
                    self.files.cut_after = self.random.randint(1, CALLS_UNTIL_CUT_MAX)
            elif how < 0.88:
                self.node.kill()
            else:
                self.node.stop()

    def cut_connections(self, mean_ms: float) -> Process:
        while True:
            yield from self.sleep(mean_ms)
            if not self.is_active:
                return
            links = self.scene.open_links()
            if links:
                self.random.choice(links).cut()

    def fail_disk(self, mean_ms: float) -> Process:
        while True:
            yield from self.sleep(mean_ms)
            if not self.is_active:
                return
            number, share = self.random.choice(
                ((errno.EIO, 0.02), (errno.EIO, 0.3), (errno.ENOSPC, 0.5), (errno.ENOSPC, 1.0), (errno.EMFILE, 1.0))
            )
            self.world.record(b"disk fails")
            self.files.fail(number, share)
            yield from self.sleep(400)
            self.files.heal()

    def move_clock(self, mean_ms: float) -> Process:
        while True:
            yield from self.sleep(mean_ms)
            if not self.is_active:
                return
            jump = self.random.choice((-2000, 2000, self.random.randint(-JUMP_MS_MAX, JUMP_MS_MAX)))
            if abs(self.world.wall_offset_ms + jump) <= WALL_OFFSET_MS_MAX:
                self.world.jump(jump)

    def between_lives(self) -> None:
        """Changes the disk while the broker is down. These are not calls of the broker, so none of them fails."""
        failing, self.files.failing = self.files.failing, None
        if self.loses_files and self.world.chance(0.3):
            self.lose_files()
        if self.scene.fragile:
            self.flip_bits()
        self.files.failing = failing
        if self.world.chance(AGAIN_CHANCE):  # another power cut, during the next start or soon after it
            self.files.cut_after = self.random.randint(1, CALLS_UNTIL_CUT_MAX * 4)

    def lose_files(self) -> None:
        """Removes files that only save the next start some work, or that have a copy."""
        files = self.files
        suffix = self.random.choice((".index", ".timeindex", ".sums", ".snapshot"))
        for directory in files.list_directory(DIRECTORY):
            if files.exists(f"{DIRECTORY}/{directory}/{PARTITION_METADATA}"):
                for name in files.list_directory(f"{DIRECTORY}/{directory}"):
                    if name.endswith(suffix) and self.world.chance(0.5):
                        files.remove(f"{DIRECTORY}/{directory}/{name}")
        path = f"{DIRECTORY}/{self.random.choice((RECOVERY_POINTS, LOG_STARTS))}"
        if self.world.chance(0.3) and files.exists(path):
            files.remove(path)
            self.scene.has_lost_checkpoint = True
        self.world.record(b"lose")

    def flip_bits(self) -> None:
        """Damages the files of one partition of a topic that may be damaged."""
        files = self.files
        places = []
        for topic in self.scene.topics:
            if topic.label not in self.scene.fragile:
                continue
            for partition in range(topic.partitions):
                directory = f"{DIRECTORY}/{topic.name}-{partition}"
                if files.exists(directory):
                    places.append((topic.label, partition, directory))
        if not places:
            return
        label, partition, directory = self.random.choice(places)
        # Not `.txnindex`: a power cut may remove the `.sums` that vouches for it, and both at once are a known gap.
        names = [name for name in files.list_directory(directory) if name.endswith((".log", ".index", ".timeindex"))]
        for _ in range(self.random.randint(1, FLIPS_MAX) if names else 0):
            path = f"{directory}/{self.random.choice(names)}"
            inode = files.entry(path)
            if isinstance(inode, Inode) and inode.content:
                position = self.random.randrange(len(inode.content))
                if path.endswith(".log") and position in unprotected_bytes(inode.durable):
                    continue
                files.flip(path, position, 1 << self.random.randrange(8))
                self.scene.damaged.add((label, partition))
                self.world.record(b"flip")
