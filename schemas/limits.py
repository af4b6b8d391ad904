"""How much we are willing to hold of one packet: checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for one packet; what exceeds them is refused with a reason.

    The defaults leave some five to ten times what any survey sends: LSST's packets reach 300 kB, the longest
    schema seen takes 55 kB, and its widest cutout has 102 pixels a side (129 elsewhere). What a record may take as Python
    objects matters most: up to a hundred times its bytes under real schemas, and thousands under hostile ones.

    Attributes
    ----------
    packet_bytes : int
        A message or file as a whole.
    header_bytes : int
        The header of a container, its schema included; also a schema served by a registry.
    block_bytes : int
        One block of a container, once inflated.
    record_bytes : int
        One record.
    record_memory : int
        The most that a record of its size and schema could take once decoded, in bytes.
    records : int
        Records in one container.
    stamp_bytes : int
        A cutout's FITS, once inflated: planes after the first included.
    stamp_side : int
        Rows or columns of a cutout, in pixels.
    pixel_bytes : int
        Pixels of all cutouts of a container, whose reader may hold them all; four times the container's own
        size where that is more.
    """

    packet_bytes: int = 256 << 20
    header_bytes: int = 256 << 10
    block_bytes: int = 32 << 20
    record_bytes: int = 4 << 20
    record_memory: int = 128 << 20
    records: int = 25_000
    stamp_bytes: int = 4 << 20
    stamp_side: int = 256
    pixel_bytes: int = 64 << 20
