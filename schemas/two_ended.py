"""Reading a datum from both its ends, without building the history in between.

Identifiers, position and time stand at the front of an alert and the cutouts at its end; between them lie up
to a year of earlier measurements, which nobody here needs and which take fastavro up to 85 ms to build. The
front follows from the writer schema; the cutouts are found by the magic bytes of the first, and what stands
from there on must make up the rest of the record to exactly its last byte. The middle is walked through
without building anything, and must fill exactly the space between; only a very long history is passed over.
If anything does not fit, the caller reads the whole datum instead.

So what is not noticed is damage within a long history that leaves its length as it was. It concerns nothing
that we use.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from space2vec.schemas.avro_types import SchemaTree
from space2vec.schemas.extract import Extractor, Settling, Values, settles
from space2vec.schemas.packet import Packet, WriterSchema
from space2vec.schemas.regular import RegularReader

_MAGICS = (b"SIMPLE  =", b"\x1f\x8b\x08")
_MOST_MAGIC = max(map(len, _MAGICS))
_WALKED_MIDDLE = 16 << 10
"""Bytes of the longest middle that is walked through: some 40 previous LSST sources, or 100 of ZTF."""
_MOST_OCCURRENCES = 3
"""Places where the magic bytes are looked at: three bytes can turn up by chance in a history."""
_SIZES_REMEMBERED = 6
_LONGEST_HEAD = 256
"""Bytes between the start of a cutout's field and its content: union branches, file name, length."""


class TwoEndedReader:
    """Reads datums of one writer schema from both ends; made by :meth:`compile`."""

    def __init__(
        self,
        front: RegularReader,
        middle: RegularReader,
        back: RegularReader,
        settling: Settling,
    ) -> None:
        self._front = front
        self._middle = middle
        self._back = back
        self._settling = settling
        # A survey keeps to one form, and to few sizes if it does not compress: what was met last is tried first.
        self._magics = _MAGICS
        self._head = 1
        self._sizes: deque[int] = deque(maxlen=_SIZES_REMEMBERED)
        # How long the cutouts were tells whether a history is short enough to be walked through.
        self._last_size = 0

    @classmethod
    def compile(cls, writer: WriterSchema, extractor: Extractor) -> TwoEndedReader | None:
        """Work out the layout; ``None`` where it is not front, history, cutouts.

        Parameters
        ----------
        writer : WriterSchema
            What datums are written with.
        extractor : Extractor
            Names the fields that are wanted.
        """
        parsed = writer.parsed
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            return None
        fields = parsed["fields"]
        names = [field["name"] for field in fields]
        tree = SchemaTree(parsed)
        first = next((i for i, name in enumerate(names) if name in extractor.cutout_fields), None)
        history = next((i for i, field in enumerate(fields) if _is_array(tree, field["type"])), None)
        if first is None or history is None or history > first:
            return None
        front = 1 + max((i for i in range(history) if names[i] in extractor.other_fields), default=-1)
        settling = extractor.settling(frozenset(names[:front] + names[first:]))
        wanted = extractor.wanted
        at_front = RegularReader.compile(tree, fields[:front], wanted)
        in_middle = RegularReader.compile(tree, fields[front:first], ())
        at_back = RegularReader.compile(tree, fields[first:], wanted)
        if front == 0 or settling is None or at_front is None or in_middle is None or at_back is None:
            return None
        return cls(at_front, in_middle, at_back, settling) if at_back.contents else None

    def read(self, packet: Packet) -> Values | None:
        """Read what is wanted at both ends of a datum.

        Returns
        -------
        dict or None
            The wanted values, nested as in the record; ``None`` if the datum does not fit the layout.
        """
        source, stop = packet.source, packet.stop
        try:
            front = self._front.read(source, packet.start, stop)
            back = self._read_cutouts(source, front[1], stop) if front is not None else None
        except ValueError:
            return None
        if front is None or back is None:
            return None
        record = front[0] | back
        return record if settles(record, self._settling) else None

    def read_front(self, packet: Packet) -> Values:
        """Read the front of a damaged datum, for its identifiers; empty if that cannot be read either."""
        try:
            front = self._front.read(packet.source, packet.start, packet.stop)
        except ValueError:
            return {}
        return front[0] if front is not None else {}

    def _read_cutouts(self, source: bytes, middle: int, stop: int) -> Values | None:
        """Read all that follows the front."""
        if stop - middle <= _WALKED_MIDDLE + self._last_size:
            walked = self._middle.read(source, middle, stop)
            if walked is not None:
                back = self._back.read(source, walked[1], stop)
                self._last_size = stop - walked[1]
                return back[0] if back is not None and back[1] == stop else None
        found = self._known_size(source, middle, stop) or self._find_back(source, middle, stop)
        if found is None:
            return None
        cutouts, start = found
        self._last_size = stop - start
        if start - middle > _WALKED_MIDDLE:
            # A null here may be the end of a first cutout whose magic bytes are damaged.
            return cutouts if cutouts[self._back.contents[0]] is not None else None
        walked = self._middle.read(source, middle, stop)
        return cutouts if walked is not None and walked[1] == start else None

    def _known_size(self, source: bytes, after: int, stop: int) -> tuple[Values, int] | None:
        """Read cutouts of a size that was met before."""
        for size in self._sizes:
            back = self._read_back(source, stop - size, stop) if stop - size >= after else None
            if back is not None and back[1] == stop and self._all_cutouts(back[0]):
                return back[0], stop - size
        return None

    def _find_back(self, source: bytes, after: int, stop: int) -> tuple[Values, int] | None:
        """Find where the cutouts begin; what is read from there on comes along."""
        for magic in self._magics:
            position = source.find(magic, after, stop)
            for _ in range(_MOST_OCCURRENCES):
                if position < 0:
                    break
                fits = False
                for head in (self._head, *range(1, _LONGEST_HEAD)):
                    start = position - head
                    back = self._read_back(source, start, stop) if start >= after else None
                    if back is None:
                        continue
                    record, end = back
                    if end == stop:
                        self._remember(magic, head, stop - start)
                        return record, start
                    fits = True
                if fits:
                    # The first cutout is here, but the record is not whole. A later cutout is not the first,
                    # though with bytes left over at the end it may look so.
                    return None
                position = source.find(magic, position + 1, stop)
        return None

    def _read_back(self, source: bytes, start: int, stop: int) -> tuple[Values, int] | None:
        if not self._back.may_begin(source, start, stop):
            return None
        try:
            return self._back.read(source, start, stop)
        except ValueError:
            # A length beyond the end: the wrong place to begin.
            return None

    def _all_cutouts(self, back: Values) -> bool:
        """Tell whether all cutouts are there and are what they should be."""
        contents = (back[name] for name in self._back.contents)
        return all(
            content is not None and content[:_MOST_MAGIC].tobytes().startswith(_MAGICS)
            for content in contents
        )

    def _remember(self, magic: bytes, head: int, size: int) -> None:
        if magic is not self._magics[0]:
            self._magics = self._magics[::-1]
        self._head = head
        if magic == _MAGICS[0]:
            self._sizes.appendleft(size)


def _is_array(tree: SchemaTree, kind: Any) -> bool:
    kind = tree.resolve(kind)
    branches = kind if isinstance(kind, list) else [kind]
    kinds = [tree.resolve(branch) for branch in branches]
    return any(isinstance(branch, dict) and branch["type"] in ("array", "map") for branch in kinds)
