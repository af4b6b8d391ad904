"""Dead letters carry the original whole, and the reason; revived, they are what they were."""

from __future__ import annotations

from space2vec.schemas.errors import PacketError, Reason
from space2vec.stream.dead_letters import REDRIVEN, dead_letter, reason_of, revived, source_headers
from space2vec.stream.protocols import Message, Partition

ORIGINAL = Message(
    Partition("ztf_20261122_programid1", 3),
    41,
    b"\x00\xffbytes",
    key=b"key",
    timestamp_ms=1_795_000_000_000,
    headers=(("producer_timestamp", b"1795.5"),),
)
ERROR = PacketError(Reason.STAMP_DAMAGED, "gzip ends early", field="cutoutScience", survey="ztf", alert_id=7)


def test_the_original_goes_out_unchanged_with_the_reason() -> None:
    letter = dead_letter("ztf-rejected", ORIGINAL, [ERROR], records=1, answers=1)
    headers = dict(letter.headers)
    assert (letter.topic, letter.key, letter.value) == ("ztf-rejected", b"key", b"\x00\xffbytes")
    assert headers["reason"] == b"stamp_damaged"
    assert headers["detail"] == b"gzip ends early"
    assert headers["field"] == b"cutoutScience"
    assert (headers["survey"], headers["alert_id"]) == (b"ztf", b"7")
    assert (headers["source_topic"], headers["source_partition"], headers["source_offset"]) == (
        b"ztf_20261122_programid1",
        b"3",
        b"41",
    )
    assert (headers["source_records"], headers["source_answers"], headers["rejected_records"]) == (
        b"1",
        b"1",
        b"1",
    )
    assert headers["source_timestamp"] == b"1795000000000"
    assert headers["producer_timestamp"] == b"1795.5"


def test_a_letter_put_through_again_is_the_message_that_it_was() -> None:
    sent = dead_letter("ztf-rejected", ORIGINAL, [ERROR], records=1, answers=1)
    letter = Message(Partition("ztf-rejected", 0), 5, sent.value or b"", sent.key, 1, sent.headers)
    assert reason_of(letter) == "stamp_damaged"
    again = revived(letter)
    assert (again.key, again.value) == (ORIGINAL.key, ORIGINAL.value)
    headers = dict(again.headers)
    assert headers[REDRIVEN] == b"ztf-rejected/0/5"
    assert headers["source_offset"] == b"41"
    assert headers["producer_timestamp"] == b"1795.5"
    assert not {"reason", "detail", "rejected_at"} & set(headers)
    assert source_headers(again, 1, 1) == ()  # it keeps naming the message that it was

    twice = dead_letter("ztf-rejected", again, [ERROR], records=1, answers=1)
    assert [name for name, _ in twice.headers].count("source_offset") == 1
    assert dict(revived(Message(letter.partition, 9, b"", None, 1, twice.headers)).headers)[REDRIVEN] == (
        b"ztf-rejected/0/9"
    )
