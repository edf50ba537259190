"""Ids of events. They are unique across processes, and making one costs next to nothing."""

import os
from itertools import count

from headwater.effects.entropy import Entropy, SystemEntropy


class Ids:
    """Makes ids: eight random bytes of this process, then a number."""

    def __init__(self, entropy: Entropy) -> None:
        self.entropy = entropy
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.prefix = self.entropy.bytes(8).hex()
        self.numbers = count(1)

    def new(self) -> str:
        return f"{self.prefix}-{next(self.numbers):x}"


ids = Ids(SystemEntropy())
