"""What the fuzzers aim at: everything that a packet goes through before and after it is scored."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from good_packets import MadeSchemas

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotate import Annotator
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.classification import encode_classification
from space2vec.schemas.container import MAGIC
from space2vec.schemas.errors import PacketError
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.writers import ChainedSchemas
from space2vec.workers.bundle import load_bundle
from space2vec.workers.preprocess import Preprocessor
from space2vec.workers.quality import status_of


class Target:
    """Reads packets, prepares their alerts, and encodes what would be published of them."""

    def __init__(self) -> None:
        self._reader = PacketReader(ChainedSchemas([MadeSchemas()]), Profiles.load())
        self._preprocessor = Preprocessor(load_bundle("core").manifest.input)
        self._annotator = Annotator()
        self._annotation = Annotation(
            *("fuzz", "1", "0" * 64, 0.5, 0.0, None, {"real": 0.5, "bogus": 0.5}, ("nan",), (0.5,) * 64),
            classified_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    def feed(self, raw: bytes) -> Counter[str]:
        """Take a packet as the stream does: all its records in one batch.

        Returns
        -------
        Counter
            How many of its records were ``scored``, ``degraded``, or rejected: by reason.

        Raises
        ------
        Exception
            Whatever the code under test should not raise.
        """
        found = list(self._reader.read(raw))
        if not found and not raw.startswith(MAGIC):
            raise AssertionError("neither a record nor a reason")
        alerts = [one for one in found if isinstance(one, Alert)]
        fate = Counter(str(one.reason) for one in found if isinstance(one, PacketError))
        if any("MemoryError" in one.detail for one in found if isinstance(one, PacketError)):
            raise AssertionError("ran out of memory")
        prepared = self._preprocessor.prepare(alerts)
        fate.update(str(error.reason) for error in prepared.rejects.values())
        fate.update(str(status_of(flags)) for flags in prepared.flags)
        for index in prepared.rows[:2]:
            self._publish(alerts[index])
        return fate

    def _publish(self, alert: Alert) -> None:
        encode_classification(alert, self._annotation, topic="t", partition=0, offset=1, status="scored")
        try:
            self._annotator.annotate(alert.packet, [self._annotation])
        except PacketError:
            return  # a schema that has no room for annotations: the alert becomes a dead letter
