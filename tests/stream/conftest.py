"""Alerts for the tests of the stream: made here, in both framings; a night for the dashboard, another to replay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dashboard_page import DESK, Page
from nightfall import answered, as_read, fill
from replaying import archive_of

from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import DashboardSettings, Settings
from space2vec.stream import replay_folder
from space2vec.stream.dashboard.entries import entry_of
from space2vec.stream.dashboard.server import Server
from space2vec.stream.dashboard.store import Store
from space2vec.stream.protocols import OutputRecord
from space2vec.stream.replay_archives import Archive
from space2vec.training.packet_schemas import lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet


@dataclass(frozen=True)
class Sent:
    """One message to publish, and the alert in it (``None``: it should be rejected)."""

    survey: str
    alert_id: int | None
    packet: bytes


def triplet(rng: np.random.Generator, size: int, flux: float) -> list[np.ndarray]:
    """A point source of some flux on noise of 1, in science and difference."""
    y, x = np.mgrid[:size, :size] - size // 2
    source = flux * np.exp(-(x**2 + y**2) / (2 * 0.9**2))
    noise = rng.normal(size=(3, size, size))
    return list((noise + np.stack([source, np.zeros_like(source), source])).astype(np.float32))


@pytest.fixture(scope="session")
def make_alerts():
    """Give a function ``(ztf, lsst, seed, poison)`` that makes so many messages of each survey."""

    def make(ztf: int = 0, lsst: int = 0, seed: int = 1, poison: int = 0) -> list[Sent]:
        rng = np.random.default_rng(seed)
        base = seed * 1_000_000
        sent = []
        for i in range(ztf):
            packet = ztf_packet(
                *triplet(rng, 63, rng.uniform(0, 60)),
                alert_id=base + i,
                object_id=f"ZTF26{i:07d}",
                jd=2461300.7,
                ra=150.0,
                dec=2.0,
            )
            sent.append(Sent("ztf", base + i, packet))
        for i in range(lsst):
            packet = lsst_packet(
                *triplet(rng, 30, rng.uniform(0, 60)),
                alert_id=base + i,
                object_id=10 * base + i,
                mjd_tai=61300.2,
                ra=150.0,
                dec=2.0,
                history=2,
            )
            sent.append(Sent("lsst", base + i, packet))
        for i in range(poison):
            whole = sent[i].packet
            broken = [b"not an alert", whole[: len(whole) // 2], b"\x00\x00\x00\xff\xff junk", b""][i % 4]
            sent.append(Sent("unknown", None, broken))
        rng.shuffle(sent)  # type: ignore[arg-type]
        return sent

    return make


@pytest.fixture
def settings_for(kafka, broker, tmp_path) -> Callable[..., Settings]:
    """Give a function ``(topic, **sections)`` that makes settings with topics of the test's own."""
    (tmp_path / "1100.avsc").write_text(json.dumps(lsst_writer_schema("11.0")))

    def make(topic: str, **sections: dict[str, Any]) -> Settings:
        prefix = topic.removeprefix("test-")
        base: dict[str, dict[str, Any]] = {
            "source": {
                "brokers": kafka.bootstrap,
                "topics": (topic,),
                "group": f"group-{prefix}",
                "options": {"session.timeout.ms": "6000", "topic.metadata.refresh.interval.ms": "2000"},
            },
            "sink": {
                "annotated": f"{{survey}}-annotated-{prefix}",
                "classifications": f"{{survey}}-classifications-{prefix}",
                "rejected": f"rejected-{prefix}",
                "ledger": f"ledger-{prefix}",
                "partitions": 2,
            },
            "schemas": {"folder": str(tmp_path)},
            "model": {"device": "cpu", "max_wait_ms": 2},
            "ray": {"workers": 1, "classifiers": 1},
            "stream": {
                "until_eof": True,
                "batch_alerts": 32,
                "commit_interval_s": 0.2,
                # The embedded broker shows aborted transactions to everybody.
                "delivery": "at-least-once" if broker.kind == "embedded" else "auto",
            },
        }
        for section, values in sections.items():
            base[section] |= values
        return Settings.model_validate(base)

    return make


# -- for the dashboard ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[OutputRecord]:
    """Sixty simulated alerts and seven spoilt ones, answered by the shipped model."""
    return answered(60, tmp_path_factory.mktemp("schemas"))


@pytest.fixture(scope="session")
def reader() -> PacketReader:
    """Opens what is annotated: its schema is inside."""
    return PacketReader()


@pytest.fixture
def store(night: list[OutputRecord], reader: PacketReader) -> Store:
    """That night as the dashboard holds it."""
    store = Store(1000, 64 << 20, "broker:9092")
    fill(store, as_read(night), reader)
    return store


# -- for its page in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def long_night(tmp_path_factory: pytest.TempPathFactory) -> list[OutputRecord]:
    """As ``night``, of more alerts than the wall shows at once."""
    return answered(240, tmp_path_factory.mktemp("schemas"), seed=6)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """Chromium, for the tests of one file."""
    with Page() as browser:
        yield browser


@pytest.fixture(scope="module")
def sky(long_night: list[OutputRecord], reader: PacketReader) -> Iterator[tuple[Store, str]]:
    """A night, and where its page is."""
    store = Store(2000, 192 << 20, "broker.example:9092 · group space2vec")
    messages = as_read(long_night)
    alerts = [message for message in messages if message.partition.topic.endswith("annotated")]
    flagged = next(message for message in reversed(alerts) if entry_of(message, reader).flags)
    seventh = alerts[-7]
    times = [header for header in seventh.headers if header[0] == "source_timestamp"]
    # For the pictures: one with lacking pixels is to be seen.
    early = replace(flagged, timestamp_ms=seventh.timestamp_ms, headers=(*flagged.headers, *times))
    messages.remove(flagged)
    messages.insert(messages.index(seventh), early)
    fill(store, messages, reader)
    with Server(DashboardSettings(port=0), store, reader) as server:
        yield store, server.address


@pytest.fixture
def page(browser: Page, sky: tuple[Store, str]) -> Iterator[Page]:
    """The page of that night, freshly opened; what it complains of is a failure."""
    browser.screen(*DESK)
    browser.scheme("light")
    browser.open(f"{sky[1]}token.html")  # a small page of the same origin
    browser.run("localStorage.clear()")
    browser.complaints()  # of that page Chromium would have a user name
    browser.open(sky[1])
    browser.shown()
    yield browser
    assert browser.complaints() == []


# -- for replays into a folder ----------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part end after 32 packets."""
    monkeypatch.setattr(replay_folder, "PART_MEMBERS", 32)


@pytest.fixture
def archive(tmp_path: Path, make_alerts: Callable[..., list[Sent]], small_parts: None) -> Archive:
    """A hundred and fifty alerts and eight spoilt ones, in several parts."""
    return archive_of(tmp_path / "night.tar.gz", [s.packet for s in make_alerts(ztf=150, poison=8)])
