"""Generated sequences of requests: a walk draws one request after the other, so that they meet in every order.

What a walk draws depends on its seed alone, never on an answer: both brokers are asked the same. What the brokers made up
(ids, epochs) is in each side's `known`.
"""

import random
from collections.abc import Callable
from typing import Any

from headwater.protocol.apis import ApiKey

from .side import Side, Step


class Walk:
    """One sequence, about names of its own."""

    partitions = 2  # of each topic
    share = 1.0  # of the walks that are taken: some take longer
    # A method that makes a step, and how often it is drawn.
    weights: dict[str, int] = {}

    def __init__(self, seed: str) -> None:
        self.name = seed
        self.random = random.Random(seed)
        self.drawn = ""
        self.topic, self.group = f"topic-{seed}", f"group-{seed}"
        self.topics: tuple[str, ...] = (self.topic,)  # that are there when it begins

    def next_step(self) -> Step:
        (self.drawn,) = self.random.choices(list(self.weights), list(self.weights.values()))
        made: Step = getattr(self, self.drawn)()
        return made

    def version(self, low: int, high: int) -> tuple[int]:
        return (self.random.randint(low, high),)

    def often(self, usual: Any, *others: Any) -> Any:
        """Mostly the usual one, else one of the others."""
        return usual if self.random.random() < 0.7 else self.random.choice(others)

    def is_choice(self, difference: str) -> bool:
        """Whether a broker may choose here, so that from now on the two have different states: the walk ends."""
        return False

    def compared(self, answer: Any) -> Any:
        """What of an answer in plain data is compared."""
        return answer

    def settle(self, side: Side) -> None:
        """Waits for what a broker does after it has answered."""


def step(name: str, key: ApiKey, versions: tuple[int, ...], make: Callable[[Side], Any], **more: Any) -> Step:
    return Step(f"{name} (version {versions[0]})", key, make, versions, **more)
