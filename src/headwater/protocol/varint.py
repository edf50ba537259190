"""Variable-length integers: seven bits per byte, lowest first. The high bit is set in all but the last byte (as in Protobuf)."""

from headwater.effects.buffers import Buffer

VARINT_BYTES_MAX = 10
ONE_BYTE = tuple(bytes((n,)) for n in range(128))


class VarintError(ValueError):
    """A varint has more than ten bytes, or the buffer ends inside it."""


def read_uvarint(buffer: Buffer, position: int) -> tuple[int, int]:
    """The unsigned number at `position` and the position after it."""
    try:  # nearly all have one byte or two
        low = buffer[position]
        if low < 0x80:
            return low, position + 1
        high = buffer[position + 1]
        if high < 0x80:
            return low & 0x7F | high << 7, position + 2
    except IndexError:
        raise VarintError("the buffer ends inside a varint") from None
    value = shift = 0
    for offset in range(position, position + VARINT_BYTES_MAX):
        try:
            byte = buffer[offset]
        except IndexError:
            raise VarintError("the buffer ends inside a varint") from None
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset + 1
        shift += 7
    raise VarintError("a varint is longer than ten bytes")


def read_varint(buffer: Buffer, position: int) -> tuple[int, int]:
    """The zig-zag encoded signed number at `position` and the position after it."""
    try:
        byte = buffer[position]
    except IndexError:
        raise VarintError("the buffer ends inside a varint") from None
    if byte < 0x80:  # nearly all: the lengths and deltas of small records
        return (byte >> 1) ^ -(byte & 1), position + 1
    value, position = read_uvarint(buffer, position)
    return (value >> 1) ^ -(value & 1), position


def uvarint(value: int) -> bytes:
    """`value` (not negative) as bytes."""
    if value < 0x80:
        return ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    """`value` zig-zag encoded as bytes; it must fit in 64 bits."""
    return uvarint((value << 1) ^ (value >> 63))
