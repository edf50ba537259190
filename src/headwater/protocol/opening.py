"""Opening a batch: getting its records, decompressed.

Nearly every batch is small once opened. Opening a large one would block the loop (about 40 ms for 32 MiB), so it is done in
another thread. The compressed bytes do not say how large a batch is. So it is first opened with a small limit, at once; only
if that fails is it opened in the other thread.
"""

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps, elsewhere
from headwater.protocol.compression import Compression, CompressionError, compress, decompress
from headwater.protocol.records import HEADER_BYTES, BatchHeader

OPENED_AT_ONCE_BYTES_MAX = 1 << 20


def open_small_batch(header: BatchHeader, batch: Buffer) -> Buffer | None:
    """The records of a batch that is small; None for one that is large, or damaged: `open_batch` tells them apart."""
    try:
        return decompress(header.compression, compressed_part(header, batch), OPENED_AT_ONCE_BYTES_MAX)
    except CompressionError:
        return None


def open_batch(header: BatchHeader, batch: Buffer, size_max: int) -> Steps[Buffer]:
    """The records of a batch. Raises CompressionError if they are damaged or more than `size_max` bytes."""
    return elsewhere(lambda: decompress(header.compression, compressed_part(header, batch), size_max))


def compress_records(compression: Compression, body: Buffer, level: int) -> Steps[Buffer]:
    """Records, compressed."""
    return elsewhere(lambda: compress(compression, body, level))


def compressed_part(header: BatchHeader, batch: Buffer) -> memoryview:
    return memoryview(batch)[HEADER_BYTES : header.size_bytes]
