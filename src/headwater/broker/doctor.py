"""Finds what is wrong with a data directory, what a broker does about it, and how it can be repaired.

There is no second reader of the files. A broker is started on an overlay of them (`effects/overlay_files.py`), which keeps
its writes to itself, and then every byte of every log is checked with the storage's own checks. The findings are what the
broker logs meanwhile, and what its logs know to be damaged.

Repairs (`storage/mending.py`) are written into an overlay too. A broker is started on top of that, again and again, until
nothing is left that can be repaired. So the outcome, and the files to copy, are known before anything is written.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from headwater.broker.configs.settings import Settings
from headwater.broker.core import METADATA_CONFIG, BrokerCore
from headwater.broker.metadata import METADATA_TOPIC, METADATA_TOPIC_ID, OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy
from headwater.effects.files import File, Files
from headwater.effects.logs import LogLines, says_rebuilt
from headwater.effects.overlay_files import OverlayFiles
from headwater.protocol.records import read_header
from headwater.storage.errors import DamagedLogError, StorageError
from headwater.storage.log import Log
from headwater.storage.mending import Mended, mend_gap, mend_part
from headwater.storage.recovery import LogRecovery
from headwater.storage.segment import Segment
from headwater.storage.soundness import OFFSET_MAX, DamagedPart, check

DAMAGE, REBUILT, NOTICE = "damage", "rebuilt", "notice"
CHECK_BYTES = 1 << 20
ROUNDS_MAX = 5
LOG_DIRECTORY = re.compile(r"(.+)-([0-9]+)")
PARTITION_FIRST = re.compile(r"(__consumer_offsets)-([0-9]+): ")
OFFSETS = re.compile(r"offsets (\d+) to (\d+)")
# Log lines of these functions are findings of their own.
KNOWN_FUNCTIONS = frozenset({"damaged_at", "lose", "put_out_of_use"})
STORAGE_ERROR = "answers KAFKA_STORAGE_ERROR for these offsets, and serves all others"
OUT_OF_USE = "answers KAFKA_STORAGE_ERROR for the whole partition, and serves all others"
NO_COORDINATOR = "answers COORDINATOR_NOT_AVAILABLE for all groups of this partition, and serves all others"
NO_START = "does not start"
NOTHING = "cannot repair this; restore the file from a backup"
GIVE_UP = (
    "brings the records back if a header or one bit is damaged; otherwise it gives them up, and consumers skip them"
)
FILL = "gives the records up, and consumers skip these offsets"


@dataclass(slots=True)
class Finding:
    """One problem. Offsets are inclusive; -1 if none are known."""

    kind: str
    path: str
    what: str
    broker: str = ""
    repair: str = ""
    topic: str = ""
    partition: int = -1
    first_offset: int = -1
    last_offset: int = -1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Target:
    """Damage of a log that may be repairable: a part of a segment, or missing offsets."""

    log: Log
    start: int
    end: int
    segment: Segment | None = None
    part: DamagedPart | None = None


@dataclass(slots=True)
class Examination:
    """The findings in a directory."""

    findings: list[Finding] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    checked_bytes: int = 0
    logs: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong. If nothing is lost either, a start repairs everything (`damages`)."""
        return all(finding.kind == NOTICE for finding in self.findings)

    @property
    def damages(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == DAMAGE]


class ExaminedBroker(BrokerCore):
    """A broker that checks all of its logs during its start, before it decides whether to start."""

    def __init__(self, examine: Callable[[Log], None], *args: Any, **more: Any) -> None:
        self.examine = examine
        super().__init__(*args, **more)

    def load_metadata(self) -> None:
        with contextlib.suppress(OSError):  # the error recurs later
            self.examine(self.store.open_log(METADATA_TOPIC, METADATA_TOPIC_ID, 0, METADATA_CONFIG))
        super().load_metadata()

    def load_coordinators(self) -> None:
        for topic in list(self.metadata.topics.values()):
            for partition in range(topic.partitions):
                if self.partitions.was_written(topic, partition):
                    try:
                        self.examine(self.partitions.log(topic, partition))
                    except OSError:
                        continue  # it was reported
        super().load_coordinators()


class Doctor:
    """See the module's docstring. `spill` makes empty files for what is not to be in the directory."""

    def __init__(
        self,
        files: Files,
        directory: str,
        spill: Callable[[], File],
        clock: Clock,
        entropy: Entropy,
        progress: Callable[[int], None] = lambda checked_bytes: None,
    ) -> None:
        self.files = files
        self.directory = directory
        self.spill = spill
        self.clock = clock
        self.entropy = entropy
        self.progress = progress

    # examining

    def examine(self, files: Files | None = None) -> Examination:
        """Examines everything; changes nothing. Raises OSError if the directory cannot be read."""
        overlay = OverlayFiles(files or self.files, self.spill())
        found = Examination()
        refused = ""
        with LogLines() as lines:
            try:
                broker = ExaminedBroker(
                    lambda log: self.look_at(log, found),
                    Settings.from_pairs({}),
                    overlay,
                    self.clock,
                    self.entropy,
                    directory=self.directory,
                )
            except StorageError as error:
                refused = str(error)
            else:
                self.add_out_of_use(broker, found)
        for record in lines.records:
            self.add_line(record, found)
        if refused:
            self.add_refusal(refused, found)
        return found

    def look_at(self, log: Log, found: Examination) -> None:
        """Checks every batch of a log."""
        found.logs += 1
        for start, end in log.damages:
            found.findings.append(
                self.of_log(log, log.directory, start, end, "their files are missing or cut short", FILL)
            )
            found.targets.append(Target(log, start, end))
        for segment in list(log.segments):
            log.ensure_index(segment)
            self.check_segment(log, segment, found)
            for part in segment.parts.found:
                path = f"{segment.path}.log"
                end = part.end_offset if part.end_offset < OFFSET_MAX else log.end_offset
                what = f"bytes {part.position} to {part.end - 1} are damaged"
                finding = self.of_log(log, path, part.start_offset, end, what, GIVE_UP)
                if log.topic == METADATA_TOPIC:
                    finding.repair = "brings them back if a header or one bit is damaged; otherwise only a backup can"
                found.findings.append(finding)
                found.targets.append(Target(log, part.start_offset, end, segment, part))

    def of_log(self, log: Log, path: str, start: int, end: int, what: str, repair: str) -> Finding:
        broker = {METADATA_TOPIC: NO_START, TRANSACTIONS_TOPIC: NO_START, OFFSETS_TOPIC: NO_COORDINATOR}
        if log.topic == METADATA_TOPIC:
            repair = NOTHING
        return Finding(
            DAMAGE, path, what, broker.get(log.topic, STORAGE_ERROR), repair, log.topic, log.partition, start, end - 1
        )

    def check_segment(self, log: Log, segment: Segment, found: Examination) -> None:
        position, expected = 0, segment.base_offset
        while position < segment.size:
            part = segment.parts.at(position)
            if part is not None:
                position, expected = part.end, part.end_offset
                continue
            data = segment.read(position, min(CHECK_BYTES, segment.size - position))
            checked = check(data, 0, segment, position, expected, log.compared_epochs)
            if not checked.size and checked.is_sound:  # a batch larger than that, or the rest of one
                size = read_header(data).size_bytes if len(data) >= 61 else 0
                if len(data) < size <= segment.size - position:
                    data = segment.read(position, size)
                    checked = check(data, 0, segment, position, expected, log.compared_epochs)
                checked = checked._replace(is_sound=bool(checked.size) and checked.is_sound)
            position, expected = position + checked.size, checked.next_offset
            found.checked_bytes += checked.size
            self.progress(found.checked_bytes)
            if not checked.is_sound:
                segment.damaged_at(position)

    def add_out_of_use(self, broker: BrokerCore, found: Examination) -> None:
        """Reports logs that could not be used at all."""
        store = broker.store
        for (topic_id, partition), error in store.damaged.items():
            topic = broker.metadata.by_id.get(topic_id)
            if topic is None or (topic.name == OFFSETS_TOPIC and partition in broker.coordination.damaged):
                continue  # its damage was reported
            path = store.directories.path(topic.name, partition)
            finding = Finding(DAMAGE, path, str(error), OUT_OF_USE, NOTHING, topic.name, partition)
            if error.start_offset >= 0:
                finding.first_offset, finding.last_offset = error.start_offset, error.end_offset - 1
                finding.repair = FILL
                log = Log(store.files, path, topic.name, topic_id, partition, broker.partitions.log_config(topic))
                try:
                    point = store.recovery_points.get((topic_id, partition), 0 if store.points_are_known else None)
                    LogRecovery(log).load(point, store.log_starts.get((topic_id, partition), 0))
                    found.targets.append(Target(log, error.start_offset, error.end_offset))
                except (OSError, DamagedLogError):
                    finding.repair = NOTHING
            found.findings.append(finding)

    def add_line(self, record: logging.LogRecord, found: Examination) -> None:
        """Turns a line of the broker's log into a finding."""
        if record.funcName in KNOWN_FUNCTIONS:
            return
        message = record.getMessage()
        is_rebuilt = says_rebuilt(record)
        if record.levelno < logging.WARNING and not is_rebuilt:
            return
        kind = REBUILT if is_rebuilt else DAMAGE if record.levelno >= logging.ERROR else NOTICE
        what = "the next start says: " + message.replace(f"{self.directory}/", "")
        finding = Finding(kind, self.path_in(message), what)
        if kind == DAMAGE:
            finding.repair = "changes nothing about it"
        elif kind == REBUILT:
            finding.repair = "is not needed for it"
        self.locate(finding, message)
        if match := PARTITION_FIRST.match(message):  # it follows from damage that was reported
            finding.kind, finding.repair = NOTICE, ""
            finding.path = f"{self.directory}/{match[1]}-{match[2]}"
            finding.topic, finding.partition = match[1], int(match[2])
        if any((other.kind, other.what) == (finding.kind, finding.what) for other in found.findings):
            return
        found.findings.append(finding)

    def add_refusal(self, message: str, found: Examination) -> None:
        """Reports why a broker does not start, unless that was already found."""
        path = self.path_in(message)
        if any(finding.broker == NO_START and path in finding.path for finding in found.findings):
            return
        finding = Finding(DAMAGE, path, message.replace(f"{self.directory}/", ""), NO_START, NOTHING)
        self.locate(finding, message)
        found.findings.append(finding)

    def path_in(self, message: str) -> str:
        match = re.search(re.escape(self.directory) + r"(/[^\s:;,]*)?", message)
        return match[0] if match else self.directory

    def locate(self, finding: Finding, message: str) -> None:
        """The partition and the offsets that a line is about."""
        name = finding.path.removeprefix(self.directory).strip("/").partition("/")[0]
        if match := LOG_DIRECTORY.fullmatch(name):
            finding.topic, finding.partition = match[1], int(match[2])
        if match := OFFSETS.search(message):
            finding.first_offset, finding.last_offset = int(match[1]), int(match[2])

    # repairing

    def mend(self, found: Examination) -> tuple[OverlayFiles, list[Mended], Examination]:
        """Repairs the findings in an overlay. Returns it, what was done, and what a broker finds afterwards."""
        overlay = OverlayFiles(self.files, self.spill())
        done: list[Mended] = []
        for _ in range(ROUNDS_MAX):
            mended = self.mend_targets(overlay, found.targets)
            if not mended:
                break
            done += mended
            found = self.examine(overlay)
        return overlay, done, found

    def mend_targets(self, overlay: OverlayFiles, targets: list[Target]) -> list[Mended]:
        done: list[Mended] = []
        # The last damage in a file comes first, because a repair moves what follows it.
        for target in sorted(targets, key=lambda t: t.part.position if t.part is not None else t.start, reverse=True):
            may_give_up = target.log.topic != METADATA_TOPIC
            mended = None
            if target.segment is not None and target.part is not None:
                path = target.segment.path + ".log"
                if overlay.exists(path):
                    mended = mend_part(overlay, target.log, target.segment, target.part, may_give_up=may_give_up)
            elif may_give_up:
                mended = mend_gap(overlay, target.log, target.start, target.end)
            if mended is not None:
                done.append(mended)
        return done
