"""The four compressions of record batches, as Kafka's Java classes read and write them.

gzip and zstd are their plain formats. lz4 is the frame format with independent blocks (Kafka's reader refuses linked
ones). snappy is raw blocks in the framing of xerial's snappy-java: a 16-byte header, then a 4-byte length before each
block. Decompression is bounded: a batch that would grow beyond `size_max` bytes is refused before it does.

The library is imported with the first compressed batch: it takes 2.5 MiB, which a broker without such batches saves.
"""

import struct
from enum import IntEnum
from mmap import mmap
from typing import Any

from headwater.effects.buffers import Buffer
from headwater.protocol.errors import ProtocolError

SNAPPY_HEADER = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
SNAPPY_BLOCK_BYTES = 32 * 1024
SPACE_BYTES_MAX = 1 << 20
DECOMPRESSED_BYTES_MAX = 256 * 1024 * 1024
# For a client's batch: as much as is decompressed in about 50 ms, and never less than what real records decompress to.
RATIO_MAX = 32
CLIENT_BYTES_MIN = 16 * 1024 * 1024
LZ4_FAST = 9  # Kafka's default level, at which it does not use the slow compressor of the other levels
# How many bytes are compressed in about 10 ms, from the first level to the last.
COMPRESSED_AT_ONCE: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((-1, 256 << 10), (3, 1 << 20), (9, 128 << 10)),
    3: ((LZ4_FAST, 1 << 20), (17, 64 << 10)),
    4: ((4, 1 << 20), (9, 128 << 10), (22, 16 << 10)),
}


class CompressionError(ProtocolError):
    """Compressed records that are damaged, or larger than allowed once decompressed."""


class Compression(IntEnum):
    """The low three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def client_bytes_max(batch_bytes_max: int) -> int:
    """How large a client's batch may become when decompressed, if batches of up to `batch_bytes_max` are allowed."""
    return min(DECOMPRESSED_BYTES_MAX, max(CLIENT_BYTES_MIN, RATIO_MAX * batch_bytes_max))


def compressed_at_once_bytes(compression: Compression, level: int) -> int:
    """How many bytes may be compressed at this level while other requests wait."""
    limits = COMPRESSED_AT_ONCE.get(compression, ())
    return next((size for level_max, size in limits if level <= level_max), 1 << 20)


def compress(compression: Compression, data: Buffer, level: int | None = None) -> Buffer:
    """`data` compressed; the buffer itself for NONE. `level` is one of Kafka's (KIP-390); snappy has none."""
    if compression == Compression.NONE:
        return data
    import cramjam

    match compression:
        case Compression.GZIP:
            return bytes(cramjam.gzip.compress(data, level=None if level == -1 else level))
        case Compression.SNAPPY:
            return snappy_compress(data)
        case Compression.LZ4:
            compressor = cramjam.lz4.Compressor(level=1 if level == LZ4_FAST else level, block_linked=False)
            view = memoryview(data)
            for start in range(
                0, len(view), SPACE_BYTES_MAX
            ):  # it takes bytes only, and copying all at once takes long
                compressor.compress(bytes(view[start : start + SPACE_BYTES_MAX]))
            return bytes(compressor.finish())
        case Compression.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=level))


def decompress(compression: Compression, data: Buffer, size_max: int) -> Buffer:
    """`data` decompressed; raises CompressionError when it is damaged or yields more than `size_max` bytes."""
    if compression == Compression.NONE:
        return data
    import cramjam

    match compression:
        case Compression.SNAPPY:
            return snappy_decompress(data, size_max)
        case Compression.GZIP:
            return decompress_bounded(cramjam.gzip, data, size_max)
        case Compression.LZ4:
            return decompress_bounded(cramjam.lz4, data, size_max)
        case Compression.ZSTD:
            return decompress_bounded(cramjam.zstd, data, size_max)


def space(size: int) -> bytearray | mmap:
    """Memory for `size` bytes. A large amount comes directly from the system: Python would fill a bytearray with zeros first,
    and hold its lock meanwhile (20 ms for 32 MiB).
    """
    return bytearray(size) if size <= SPACE_BYTES_MAX else mmap(-1, size)


def decompress_bounded(module: Any, data: Buffer, size_max: int) -> Buffer:
    """Decompresses into buffers that double until the data fits or `size_max` is reached."""
    import cramjam

    size = min(size_max, max(4096, 8 * len(data)))
    while True:
        output = space(size)
        try:
            written = module.decompress_into(data, output)
        except cramjam.DecompressionError as error:
            # A buffer that is too small raises the same exception as damaged data: only with the largest is it certain.
            if size >= size_max:
                raise CompressionError(f"cannot decompress records: {error}") from error
            size = min(size_max, 4 * size)
            continue
        return memoryview(output)[:written]


def snappy_compress(data: Buffer) -> bytes:
    import cramjam

    view = memoryview(data)
    parts: list[Buffer] = [SNAPPY_HEADER]
    for start in range(0, len(view), SNAPPY_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + SNAPPY_BLOCK_BYTES]))
        parts += [struct.pack(">i", len(block)), block]
    return b"".join(parts)


def snappy_decompress(data: Buffer, size_max: int) -> memoryview:
    view = memoryview(data)
    if bytes(view[:8]) != SNAPPY_HEADER[:8]:
        return snappy_blocks([view], size_max)
    blocks, position = [], len(SNAPPY_HEADER)
    while position < len(view):
        if position + 4 > len(view):
            raise CompressionError("a snappy block ends too early")
        (size,) = struct.unpack_from(">i", view, position)
        position += 4
        if size < 0 or position + size > len(view):
            raise CompressionError("a snappy block ends too early")
        blocks.append(view[position : position + size])
        position += size
    return snappy_blocks(blocks, size_max)


def snappy_blocks(blocks: list[memoryview], size_max: int) -> memoryview:
    import cramjam

    try:
        sizes = [cramjam.snappy.decompress_raw_len(block) for block in blocks]
        if sum(sizes) > size_max:
            raise CompressionError("snappy records are too large when decompressed")
        output, end = memoryview(space(sum(sizes))), 0
        for block, size in zip(blocks, sizes, strict=True):
            if cramjam.snappy.decompress_raw_into(block, output[end : end + size]) != size:
                raise CompressionError("a snappy block holds less than it says")
            end += size
        return output
    except cramjam.DecompressionError as error:
        raise CompressionError(f"cannot decompress records: {error}") from error
