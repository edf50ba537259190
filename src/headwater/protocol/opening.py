"""Opening a batch: its records, decompressed.

Nearly every batch is small once opened. A large one would hold up whoever opens it (32 MiB: some 40 ms), so it is opened
in another thread. Nobody can tell from the compressed bytes which it is: opening it with a small limit does.
"""

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps, elsewhere
from headwater.protocol.compression import Compression, CompressionError, compress, decompress
from headwater.protocol.records import HEADER_BYTES, BatchHeader

OPENED_AT_ONCE_BYTES_MAX = 1 << 20


def opened_at_once(header: BatchHeader, batch: Buffer) -> Buffer | None:
    """The records of a batch that is small; None for one that is large, or damaged: `opened` tells which."""
    try:
        return decompress(header.compression, compressed(header, batch), OPENED_AT_ONCE_BYTES_MAX)
    except CompressionError:
        return None


def opened(header: BatchHeader, batch: Buffer, size_max: int) -> Steps[Buffer]:
    """The records of a batch. Raises CompressionError where they are damaged or more than `size_max` bytes."""
    return elsewhere(lambda: decompress(header.compression, compressed(header, batch), size_max))


def closed(compression: Compression, body: Buffer) -> Steps[Buffer]:
    """Records, compressed."""
    return elsewhere(lambda: compress(compression, body))


def compressed(header: BatchHeader, batch: Buffer) -> memoryview:
    return memoryview(batch)[HEADER_BYTES : header.size_bytes]
