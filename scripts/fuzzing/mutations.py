"""Damage to the content of a file: what disks, networks, other programs and attackers do to it."""

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

TOKENS = (
    *(b"nan", b"inf", b"-inf", b"NA", b"1e39", b"-1e39", b"3e38", b"1e-46", b"0", b"-1", b"1_0", b"0x10", b"1,5"),
    *(b"2147483648", b"18446744073709551616", b"-9223372036854775808", b"=", b"=1+1", b"", b" ", b"\0", b"\xff"),
    *(b'"', b"'", b",", b";", b"::", b"|", b"\t", b"\n", b"\r", b"\n\n", b"\r\n", b"\\", b"\\ud83d", b"{", b"[", b"}"),
    *(b"\xed\xa0\xbd", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xae", b"\x1b[31m", b"\xc2\x85", b"\x0b"),
    *(b"../../../../../../etc/passwd", b"/dev/zero", b"pipe.wav", b".", b"null", b"true", b"{}", b"[]"),
    *(b"a" * 300, b"a" * 5_000, b"9" * 5_000, b"[" * 5_000, b"a b " * 2_000, b"a" * 140_000),
)
"""What is inserted into a file, or put in place of one of its fields."""

Damage = Callable[[bytes], bytes]
"""Bytes to other bytes."""


class Mutator:
    """Damages bytes at random, as a function of a seed."""

    def __init__(self, *seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, content: bytes) -> bytes:
        """``content`` with one to three changes."""
        changes = (
            *(self.flip_bits, self.truncate, self.zero_range, self.insert_bytes, self.swap_ranges, self.delete_range),
            *(self.repeat_line, self.set_number, self.insert_token, self.replace_field),
        )
        for _ in range(int(self.random.integers(1, 4))):
            content = changes[self.below(len(changes))](content)
        return content

    def below(self, size: int) -> int:
        """A random number from 0 to ``size`` - 1; 0 for an empty range."""
        return int(self.random.integers(max(1, size)))

    def range_in(self, content: bytes) -> tuple[int, int]:
        """The beginning and end of a random range, most often a short one."""
        start = self.below(len(content))
        return start, min(len(content), start + 1 + self.below(2 ** self.below(8)))

    def flip_bits(self, content: bytes) -> bytes:
        """One to four bits are wrong."""
        changed = bytearray(content)
        for _ in range(1 + self.below(4) if content else 0):
            changed[self.below(len(changed))] ^= 1 << self.below(8)
        return bytes(changed)

    def truncate(self, content: bytes) -> bytes:
        """The end is missing."""
        return content[: self.below(len(content))]

    def zero_range(self, content: bytes) -> bytes:
        """A range is zero, as after a crash of the machine."""
        start, end = self.range_in(content)
        return content[:start] + bytes(end - start) + content[end:]

    def insert_bytes(self, content: bytes) -> bytes:
        """Random bytes are inserted."""
        at = self.below(len(content) + 1)
        return content[:at] + self.random.bytes(1 + self.below(2 ** self.below(8))) + content[at:]

    def delete_range(self, content: bytes) -> bytes:
        """A range is missing."""
        start, end = self.range_in(content)
        return content[:start] + content[end:]

    def swap_ranges(self, content: bytes) -> bytes:
        """Two ranges have changed places."""
        start, end, far = *self.range_in(content), self.below(len(content))
        far = max(end, far)
        length = min(end - start, len(content) - far)
        first, second = content[start : start + length], content[far : far + length]
        return content[:start] + second + content[start + length : far] + first + content[far + length :]

    def repeat_line(self, content: bytes) -> bytes:
        """A line stands twice, or is missing."""
        lines = content.split(b"\n")
        at = self.below(len(lines))
        return b"\n".join([*lines[:at], *[lines[at]] * (2 * self.below(2)), *lines[at + 1 :]])

    def set_number(self, content: bytes) -> bytes:
        """Two, four or eight bytes are an extreme number, as a size in a header."""
        at, size = self.below(len(content)), 2 << self.below(3)
        number = (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)[self.below(5)]
        return content[:at] + number.to_bytes(size, ("little", "big")[self.below(2)]) + content[at + size :]

    def insert_token(self, content: bytes) -> bytes:
        """One of ``TOKENS`` is inserted."""
        at = self.below(len(content) + 1)
        return content[:at] + TOKENS[self.below(len(TOKENS))] + content[at:]

    def replace_field(self, content: bytes) -> bytes:
        """One of ``TOKENS`` stands in place of a field or a number."""
        fields = list(re.finditer(rb'[^\s,;:|"{}\[\]()]+', content[:100_000])) or [re.compile(b"").match(content)]
        start, end = fields[self.below(len(fields))].span()  # pyright: ignore[reportOptionalMemberAccess]
        return content[:start] + TOKENS[self.below(len(TOKENS))] + content[end:]


def inside_gzip(content: bytes, damage: Damage) -> bytes:
    """A gzipped file whose content is damaged, while its checksum is right."""
    return gzip.compress(damage(gzip.decompress(content)), mtime=0)


def inside_zip(content: bytes, damage: Damage) -> bytes:
    """A zip archive in which a member is damaged, while all checksums are right."""
    damaged = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(damaged, "w") as copy:
        members = archive.infolist()
        chosen = _place(content, damage, len(members))
        for place, member in enumerate(members):
            data = archive.read(member)
            copy.writestr(member, damage(data) if place == chosen else data)
    return damaged.getvalue()


def inside_png(content: bytes, damage: Damage) -> bytes:
    """A PNG file in which the data of a chunk is damaged, while its length and checksum are right."""
    signature, rest, chunks = content[:8], content[8:], []
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        chunks.append((rest[4:8], rest[8 : 8 + length]))
        rest = rest[12 + length :]
    place = _place(content, damage, len(chunks))
    chunks[place] = chunks[place][0], damage(chunks[place][1])
    return signature + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _place(content: bytes, damage: Damage, count: int) -> int:
    """A place below ``count``, as random as the damage."""
    return zlib.crc32(damage(content)) % count
