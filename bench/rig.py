"""What the benches of the whole service share: a real broker here, a topic full of packets, and what all of it costs.

A run has processes of its own for each role, so their CPU time and memory are read from ``/proc``, by role and by
thread: on a machine that others use too, CPU seconds per alert are steadier than alerts per second.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.schemas.varint import decode_long, encode_long
from space2vec.stream.app import run_application
from space2vec.stream.broker_apache import ApacheCluster
from space2vec.stream.logs import configure_logs
from space2vec.stream.simulated import writer_schema_files
from space2vec.training.packets import lsst_packet, ztf_packet

TOPIC = "alerts"
LEDGER = "space2vec-ledger"
_FIRST_ID = 2695378462115010012
_STALL_S = 120.0


def machine() -> str:
    """Name the machine, and who else is using it."""
    load = os.getloadavg()[0]
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f} at the start"
    )


# ---- packets ---------------------------------------------------------------------------------------------


def made_packets(
    survey: str, count: int, history: int = 0, psf: int = 41, side: int | None = None
) -> list[bytes]:
    """Packets laid out as the survey's, of sky noise; stamps have the survey's own size unless told."""
    rng = np.random.default_rng(1)
    side = side or (63 if survey == "ztf" else 30)
    packets = []
    for number in range(count):
        science, template = rng.normal(300, 12, (2, side, side)).astype(np.float32)
        triplet = (science, template, science - template)
        where: dict[str, Any] = {"alert_id": _FIRST_ID + number, "ra": 150.0, "dec": 2.0, "history": history}
        if survey == "ztf":
            packets.append(ztf_packet(*triplet, object_id="ZTF18abudxnw", jd=2460449.88, **where))
        else:
            packets.append(lsst_packet(*triplet, object_id=number + 1, mjd_tai=61095.3, psf=psf, **where))
    return packets


def found_packets(folder: Path, count: int) -> list[bytes]:
    """Real packets of one alert each that have all three stamps."""
    reader, packets = PacketReader(), []
    for path in sorted(folder.rglob("*.avro")):
        raw = path.read_bytes()
        found = list(reader.read(raw))
        if len(found) == 1 and isinstance(found[0], Alert) and len(found[0].stamps) == len(Plane):
            packets.append(raw)
        if len(packets) == count:
            break
    if not packets:
        raise SystemExit(f"{folder}: no packet with three stamps in it")
    return packets


def with_new_id(packet: bytes, alert_id: int) -> bytes:
    """An LSST packet with another diaSourceId: its first field, after the five bytes of framing."""
    _, end = decode_long(packet, 5)
    return packet[:5] + encode_long(alert_id) + packet[end:]


# ---- broker and topics -----------------------------------------------------------------------------------


class Night:
    """A broker on this machine, a source topic, and settings for a service between them.

    Parameters
    ----------
    settings : dict
        Sections of settings over those that make a run of it.
    partitions : int
        Of source and output topics.
    compression : str
        Of the source topic's messages, as its producer sends them.
    """

    def __init__(
        self, settings: dict[str, dict[str, Any]], partitions: int = 4, compression: str = "none"
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="space2vec-bench-")
        folder = Path(self._folder.name)
        self.broker = ApacheCluster(1, folder / "kafka", {"log.message.timestamp.type": "LogAppendTime"})
        self.broker.launch()
        self.partitions = partitions
        self.sent_at: dict[int, list[float]] = {number: [] for number in range(partitions)}
        """By partition and offset: the broker's timestamp, in seconds since 1970."""
        self._compression = compression
        for name, text in writer_schema_files().items():
            (folder / name).write_text(text)
        ours = {
            "source": {"brokers": self.broker.bootstrap, "topics": (TOPIC,), "group": "bench"},
            "sink": {"ledger": LEDGER, "partitions": partitions},
            "schemas": {"folder": folder},
        }
        merged = {name: ours.get(name, {}) | settings.get(name, {}) for name in {*ours, *settings}}
        self.settings = Settings.model_validate(merged)
        topics = [
            NewTopic(TOPIC, partitions, 1, config={"max.message.bytes": str(4 << 20)}),
            NewTopic(LEDGER, 1),
        ]
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        for made in admin.create_topics(topics).values():
            made.result(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.stop()
        self._folder.cleanup()

    def publish(self, packets: Iterator[bytes], rate: float | None = None) -> int:
        """Publish packets, partition by turn, at a rate or as fast as the broker takes them; how many."""
        producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "linger.ms": 5,
                "compression.type": self._compression,
                "message.max.bytes": 4 << 20,
                "queue.buffering.max.kbytes": 64 << 10,
            }
        )

        def acknowledged(error: object, message: Any) -> None:
            assert error is None, error
            of_partition = self.sent_at[message.partition()]
            assert message.offset() == len(of_partition)
            of_partition.append(message.timestamp()[1] / 1000)

        count, began = 0, time.monotonic()
        for count, packet in enumerate(packets, 1):
            if rate is not None and (early := began + count / rate - time.monotonic()) > 0:
                producer.poll(early)
                time.sleep(max(0.0, began + count / rate - time.monotonic()))
            while True:
                try:
                    producer.produce(
                        TOPIC, packet, partition=count % self.partitions, on_delivery=acknowledged
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(60) == 0
        return count


class Answers(threading.Thread):
    """Reads the ledger as its lines are committed: which offsets were answered, and when that could be seen."""

    def __init__(self, night: Night) -> None:
        super().__init__(name="answers", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": night.broker.bootstrap,
                "group.id": "bench-answers",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
            }
        )
        self._consumer.subscribe([LEDGER])
        self._over = threading.Event()
        self.lines: list[tuple[float, int, int, int]] = []
        """When, partition, first offset, offset after the last."""
        self.count = 0
        self.scored = 0

    def run(self) -> None:
        while not self._over.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error():
                continue
            line = json.loads(message.value())
            self.lines.append((time.time(), line["partition"], line["first"], line["next"]))
            self.scored += line["scored"] + line["degraded"]
            self.count += line["messages"]
        self._consumer.close()

    def close(self) -> None:
        self._over.set()
        self.join()

    def latencies(self, night: Night, since: Sequence[int]) -> np.ndarray[Any, Any]:
        """Seconds from the broker's timestamp to the answer, for every message from an offset of each partition on."""
        late = []
        for when, partition, first, after in self.lines:
            sent = night.sent_at[partition][max(first, since[partition]) : after]
            late += [when - at for at in sent]
        return np.array(late)


# ---- what it costs ---------------------------------------------------------------------------------------


@dataclass
class Sample:
    """Totals of one moment: CPU seconds by role (of workers by kind of thread too), resident bytes by role."""

    at: float
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, int] = field(default_factory=dict)


class Costs(threading.Thread):
    """Samples the processes of a run, from the start of the block to its end, every so many seconds."""

    def __init__(self, every_s: float = 0.2) -> None:
        super().__init__(name="costs", daemon=True)
        self._every_s = every_s
        self._over = threading.Event()
        self.samples: list[Sample] = []

    def run(self) -> None:
        while not self._over.is_set():
            self.samples.append(_sample())
            self._over.wait(self._every_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def cpu_between(self, start: float, stop: float) -> dict[str, float]:
        """CPU seconds by role and thread between two moments (seconds since 1970)."""
        samples = list(self.samples)
        at = [sample.at for sample in samples]
        names = {name for sample in samples for name in sample.cpu}
        spent = {}
        for name in names:
            totals = np.maximum.accumulate([sample.cpu.get(name, 0.0) for sample in samples])
            spent[name] = float(np.interp(stop, at, totals) - np.interp(start, at, totals))
        return spent

    def peaks(self) -> dict[str, int]:
        """Most bytes resident at once, by role; with several processes of a role, of the largest."""
        peaks: dict[str, int] = {}
        for sample in self.samples:
            for role, size in sample.rss.items():
                peaks[role] = max(peaks.get(role, 0), size)
        return peaks


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    if not command:
        return "other"
    if "StreamWorker" in command[0] or "bench-worker" in command:
        return "worker"
    if "Classifier" in command[0]:
        return "classifier"
    return "broker" if "kafka.Kafka" in command else "ray"


_TICKS = os.sysconf("SC_CLK_TCK")
_roles: dict[int, str] = {}


def _sample() -> Sample:
    sample = Sample(time.time())
    cpu: dict[str, float] = defaultdict(float)
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            role = "bench" if process.pid == me.pid else _role_of(process)
            times = process.cpu_times()
            cpu[role] += times.user + times.system
            sample.rss[role] = max(sample.rss.get(role, 0), process.memory_info().rss)
            if role == "worker":
                for thread, seconds in _threads(process.pid):
                    cpu[f"{role}/{thread}"] += seconds
        except (psutil.Error, OSError):  # it has just ended
            continue
    sample.cpu = dict(cpu)
    return sample


def _role_of(process: psutil.Process) -> str:
    """Role of a process; a Ray worker shows its own only once an actor runs in it."""
    known = _roles.get(process.pid, "ray")
    if known == "ray":
        known = _roles[process.pid] = _role(process)
    return known


def _threads(pid: int) -> Iterator[tuple[str, float]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        stat = (task / "stat").read_text()
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2 :].split()
        yield (
            "librdkafka" if name.startswith("rdk:") else "python",
            (int(fields[11]) + int(fields[12])) / _TICKS,
        )


# ---- running the service ---------------------------------------------------------------------------------


@contextmanager
def service(night: Night) -> Iterator[Service]:
    """Run the application for the length of the block."""
    running = Service(night)
    running.start()
    try:
        yield running
    finally:
        running.stop.set()
        running.join()
    if running.failure is not None:
        raise running.failure


class Service(threading.Thread):
    """The application as ``space2vec run`` has it."""

    def __init__(self, night: Night) -> None:
        super().__init__(name="service", daemon=True)
        self._settings = night.settings
        self.stop = threading.Event()
        self.summary: Any = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        configure_logs(logging.WARNING)
        try:
            self.summary = run_application(self._settings, self.stop, self._note)
        except BaseException as error:  # noqa: BLE001 - raised again where the service is used
            self.failure = error

    def _note(self, summary: Any) -> None:
        self.summary = summary


def wait_until(done: Callable[[], bool], running: Service, progress: Callable[[], int]) -> None:
    """Wait for something, as long as the service runs and gets on with it."""
    seen, since = progress(), time.monotonic()
    while not done():
        if running.failure is not None:
            raise running.failure
        if progress() != seen:
            seen, since = progress(), time.monotonic()
        if time.monotonic() - since > _STALL_S:
            raise SystemExit(f"nothing answered for {_STALL_S:.0f} s; {seen} so far")
        time.sleep(0.02)


def percentiles(seconds: np.ndarray[Any, Any]) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    return {
        "p50_s": round(float(np.percentile(seconds, 50)), 3),
        "p99_s": round(float(np.percentile(seconds, 99)), 3),
        "max_s": round(float(seconds.max()), 3),
    }


def repeated(packets: Sequence[bytes], count: int) -> Iterator[bytes]:
    """``count`` packets, the given ones over and over."""
    for number in range(count):
        yield packets[number % len(packets)]
