"""Replay a made night, kill the replay at random, and hold what came of it against an undisturbed run.

The night is ZTF-like packets in a tar.gz, one in a hundred irregular in one of the ways that real packets are
(bench/made_night.py). Each destination gets it twice: once undisturbed, once killed with SIGKILL again and again and
begun again. Then both are compared, bit for bit; only the moments at which a record was made (`classified_at`,
`rejected_at`) are left out where a format holds them. Kafka is Apache Kafka, one broker, fresh for either run.

Beside it: alerts per CPU second of the live path, from Kafka to Kafka with the same pipeline and scorer in one process;
the most memory held over archives from small to large; what a replay writes to disk. CPU seconds are the process's own,
start included. What a replay takes from a service beside it, bench/beside.py tells.

Examples::

    python bench/replay.py --json
    python bench/replay.py --alerts 4000 --kills 3 --to parquet --large 0
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import fastavro
import pyarrow.parquet as pq
from confluent_kafka import Message
from made_night import made_night, write_night, write_schemas

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import ClusterSettings, Settings
from space2vec.stream.broker_apache import ApacheCluster
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.replay_folder import PART_MEMBERS
from space2vec.stream.replay_kafka import all_messages
from space2vec.stream.topic_reader import TopicReader

PART = 512
"""Packets per part file here: so a kill falls among forty parts of this night, as among those of a long one."""
VERB = (
    f"import sys; from space2vec.stream import replay_folder; replay_folder.PART_MEMBERS = {PART}; "
    "from space2vec.stream.cli import run_command; sys.exit(run_command(sys.argv[1:]))"
)
TOPIC, SOURCE = "rescored", "alerts"
SIZES = (2000, 20_000)
SMALL_SIDE = 21


def main() -> int:
    """Run it; 0 when every packet is accounted for and both runs are equal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=20_000)
    parser.add_argument("--damaged", type=float, default=0.01, help="share of irregular packets")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--to", choices=("parquet", "kafka", "both", "none"), default="both")
    parser.add_argument("--large", type=int, default=200_000, help="alerts for the memory held; 0: not tried")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON line on stdout")
    parser.add_argument("--live", help=argparse.SUPPRESS)  # this program, as the live path: a settings file
    args = parser.parse_args()
    if args.live:
        return live(Path(args.live), args.alerts)
    with tempfile.TemporaryDirectory(prefix="space2vec-replay-") as folder:
        result = Bench(args, Path(folder)).run()
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))
    tried = [result[to] for to in ("parquet", "kafka") if to in result]
    return 0 if all(each["equal"] and each["accounted"] == args.alerts for each in tried) else 1


@dataclass(frozen=True)
class Ended:
    """A process that has ended: what it said, and what it took."""

    code: int
    said: str
    cpu_s: float
    wall_s: float
    peak_mib: float
    written_mib: float

    def summary(self) -> dict[str, Any]:
        """Give the JSON line that it wrote."""
        return json.loads(self.said.splitlines()[-1])


class Bench:
    """One run."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.random = random.Random(args.seed)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.env = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        self.config = folder / "replay.toml"
        self.config.write_text(
            f'[schemas]\nfolder = "{folder}/schemas"\n[model]\ndevice = "cpu"\n'
            '[sink]\npartitions = 4\n[stream]\ndelivery = "exactly-once"\ncommit_interval_s = 0.5\n'
        )
        write_schemas(folder / "schemas")

    def run(self) -> dict[str, Any]:
        """Everything that was asked for."""
        args = self.args
        result: dict[str, Any] = {
            "bench": "replay",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "alerts": args.alerts,
            "irregular": args.damaged,
            "seed": args.seed,
        }
        if args.to != "none":
            self.night = self.folder / "night.tar.gz"
            unpacked = write_night(self.night, made_night(args.alerts, args.damaged, seed=args.seed))
            result["archive_mib"] = round(self.night.stat().st_size / 2**20, 1)
            result["unpacked_mib"] = round(unpacked / 2**20, 1)
        if args.to in ("parquet", "both"):
            result["parquet"] = self.to_parquet()
        if args.to in ("kafka", "both"):
            result["kafka"], result["live"] = self.to_kafka()
        if args.large:
            result["memory"] = self.memory()
        return result

    # ---- Parquet -------------------------------------------------------------------------------------------

    def to_parquet(self) -> dict[str, Any]:
        calm, out = self.folder / "calm", self.folder / "out"
        undisturbed = self.ended(self.start(f"parquet:{calm}"))
        kills = self.kill_among_parts(out, undisturbed.wall_s)
        last = self.ended(self.start(f"parquet:{out}"))
        audited = self.space2vec("audit", "--replay", f"parquet:{out}")
        stored = files(out)
        rows = Counter(member for path in out.glob("alerts/**/*.parquet") for member in members(path))
        rejected = Counter(member for path in out.glob("rejected/*.parquet") for member in members(path))
        summary = last.summary()
        silent = self.args.alerts - len(rows | rejected)
        return {
            "kills": kills,
            "accounted": len(rows | rejected) + min(silent, self.silent()),
            "rows": rows.total(),
            "rejected": rejected.total(),
            "without_records": silent,
            "answered_by_the_last_call": summary["fresh"],
            "audited": audited.code == 0,
            "files": len(stored),
            "equal": stored == files(calm),
            **self.cost(undisturbed),
            "stored_bytes_per_row": round(bytes_below("alerts", stored) / rows.total()),
            "stored_bytes_per_rejected": round(bytes_below("rejected", stored) / max(1, rejected.total())),
        }

    def kill_among_parts(self, out: Path, calm_s: float) -> int:
        """Kill it a random time after a random part; how often it could be done."""
        part_s, kills = calm_s / max(1, self.args.alerts // PART), 0
        most = 3 * self.args.alerts // PART // (2 * self.args.kills + 4)
        for _ in range(self.args.kills):
            wanted = parts(out) + self.random.randint(0, most)
            process = self.start(f"parquet:{out}")
            while process.poll() is None and parts(out) < wanted:
                time.sleep(0.005)
            time.sleep(self.random.random() * part_s)
            kills += kill(process)
        return kills

    # ---- Kafka ---------------------------------------------------------------------------------------------

    def to_kafka(self) -> tuple[dict[str, Any], dict[str, Any]]:
        with ApacheCluster(1, self.folder / "first") as cluster:
            undisturbed = self.ended(self.start(f"kafka:{TOPIC}", "-b", cluster.bootstrap))
            calm = records(cluster.bootstrap)
            lived = self.live(cluster.bootstrap)
        with ApacheCluster(1, self.folder / "second") as cluster:
            kills = self.kill_among_commits(cluster.bootstrap, undisturbed.wall_s)
            last = self.ended(self.start(f"kafka:{TOPIC}", "-b", cluster.bootstrap))
            found = records(cluster.bootstrap)
            audited = self.space2vec("audit", "--replay", f"kafka:{TOPIC}", "-b", cluster.bootstrap)
        answered = {member for _, member, _ in found}
        silent = self.args.alerts - len(answered)
        told = {
            "kills": kills,
            "accounted": len(answered) + min(silent, self.silent()),
            "records": sum(topic == TOPIC for topic, _, _ in found),
            "rejected": sum(topic != TOPIC for topic, _, _ in found),
            "without_records": silent,
            "answered_by_the_last_call": last.summary()["fresh"],
            "audited": audited.code == 0,
            "equal": found == calm,
            **self.cost(undisturbed),
        }
        return told, lived

    def kill_among_commits(self, bootstrap: str, calm_s: float) -> int:
        """Kill it a random time after a random number of answers; how often it could be done."""
        reader, kills = TopicReader(ClusterSettings(brokers=bootstrap)), 0
        most = self.args.alerts // (self.args.kills + 2)
        for _ in range(self.args.kills):
            wanted = reach(reader) + self.random.randint(0, most)
            process = self.start(f"kafka:{TOPIC}", "-b", bootstrap)
            while process.poll() is None and reach(reader) < wanted:
                time.sleep(0.05)
            time.sleep(self.random.random() * calm_s / 100)
            kills += kill(process)
        reader.close()
        return kills

    def live(self, bootstrap: str) -> dict[str, Any]:
        """Publish the night, and put it through as the live stream would be."""
        told = self.space2vec("publish", str(self.night), "--to", SOURCE, "-b", bootstrap, "--json")
        settings = self.folder / "live.json"
        settings.write_text(
            json.dumps(
                {
                    "source": {"brokers": bootstrap, "topics": [SOURCE], "group": "live"},
                    "sink": {"annotated": "", "partitions": 4},
                    "schemas": {"folder": str(self.folder / "schemas")},
                    "model": {"device": "cpu"},
                    "stream": {"delivery": "exactly-once", "commit_interval_s": 0.5},
                }
            )
        )
        program = [sys.executable, __file__, "--live", str(settings), "--alerts", str(self.args.alerts)]
        lived = self.ended(self.spawn(program))
        if told.code or lived.summary()["messages"] != self.args.alerts:
            raise RuntimeError(f"the live path did not get every packet: {told.said} {lived.said}")
        return self.cost(lived)

    # ---- memory, disk ---------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Most memory held over small and large archives of small packets, in parts of the usual size."""
        held: dict[str, Any] = {"part": PART_MEMBERS}
        for count in (*SIZES, self.args.large):
            path = self.folder / f"{count}.tar.gz"
            write_night(path, made_night(count, 0.0, SMALL_SIDE))
            verb = self.verb(path, f"parquet:{self.folder / str(count)}")
            ended = self.ended(self.spawn([sys.executable, "-m", "space2vec.stream", *verb]))
            held[str(count)] = self.cost(ended) | {"alerts": ended.summary()["alerts"]}
            path.unlink()
        return held

    def cost(self, ended: Ended) -> dict[str, Any]:
        left = sum(path.stat().st_size for path in self.temporary.rglob("*") if path.is_file())
        return {
            "alerts_per_cpu_s": round(ended.summary()["messages"] / ended.cpu_s, 1)
            if "messages" in ended.summary()
            else round(sum(each["messages"] for each in ended.summary()["each"]) / ended.cpu_s, 1),
            "cpu_s": round(ended.cpu_s, 1),
            "wall_s": round(ended.wall_s, 1),
            "peak_mib": round(ended.peak_mib),
            "written_mib": round(ended.written_mib, 1),
            "temporary_bytes": left,
        }

    # ---- processes -------------------------------------------------------------------------------------------

    def silent(self) -> int:
        """How many of the packets are containers without records, which rightly have no answer."""
        from made_night import WAYS

        every = round(1 / self.args.damaged)
        place = list(WAYS).index("2 container without records")
        return sum(
            number // every % len(WAYS) == place for number in range(every - 1, self.args.alerts, every)
        )

    def verb(self, night: Path, to: str) -> list[str]:
        return ["replay", str(night), "--to", to, "--config", str(self.config), "--local", "--json"]

    def start(self, to: str, *more: str) -> subprocess.Popen[bytes]:
        return self.spawn([sys.executable, "-c", VERB, *self.verb(self.night, to), *more])

    def spawn(self, program: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "said").open("wb") as out, (self.folder / "errors").open("wb") as errors:
            return subprocess.Popen(program, env=self.env, stdout=out, stderr=errors)

    def ended(self, process: subprocess.Popen[bytes]) -> Ended:
        began, peak = time.monotonic(), 0.0
        while not (waited := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = peak_mib(process.pid) or peak
            time.sleep(0.05)
        _, status, used = waited
        process.returncode = os.waitstatus_to_exitcode(status)
        said = (self.folder / "said").read_text()
        if process.returncode:
            raise RuntimeError(
                f"{process.args}: {process.returncode}\n{said}{(self.folder / 'errors').read_text()}"
            )
        return Ended(
            process.returncode,
            said,
            used.ru_utime + used.ru_stime,
            time.monotonic() - began,
            peak,
            used.ru_oublock / 2048,
        )

    def space2vec(self, *arguments: str) -> Ended:
        return self.ended(self.spawn([sys.executable, "-m", "space2vec.stream", *arguments]))


class UntilAnswered(Event):
    """Set once so many messages are answered."""

    def __init__(self, pipeline: Pipeline, count: int) -> None:
        super().__init__()
        self.pipeline, self.count = pipeline, count

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.pipeline.counts.messages >= self.count


def live(settings_file: Path, count: int) -> int:
    """Be the live path: from Kafka to Kafka in this process."""
    from space2vec.stream.assembly import kafka_pipeline
    from space2vec.stream.local_scorer import LocalScorer
    from space2vec.stream.models import Model
    from space2vec.workers.backends import open_backend
    from space2vec.workers.bundle import load_bundle

    settings = Settings.model_validate_json(settings_file.read_text())
    bundle = load_bundle(settings.model.bundle)
    scorer = LocalScorer(open_backend(bundle, settings.model.device, settings.model.threads))
    pipeline = kafka_pipeline(settings, [Model(bundle, scorer)], "live.0")
    pipeline.run(UntilAnswered(pipeline, count))
    print(json.dumps({"messages": pipeline.counts.messages}))
    return 0


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill it with SIGKILL; whether it was there to be killed."""
    there = process.poll() is None
    if there:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return there


def peak_mib(process: int) -> float | None:
    """Most memory that a process has held, as the kernel has it; what wait4 tells begins with what we hold ourselves."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024 if "VmHWM" in status else None


def reach(reader: TopicReader) -> int:
    """How far the partitions of the answers reach, aborted ones included."""
    try:
        return sum(end for _, end in reader.spans(TOPIC).values())
    except KafkaError:  # the topic has just been made
        return 0


def parts(out: Path) -> int:
    """How many parts the manifest tells of."""
    return sum(len(json.loads(path.read_text())["parts"]) for path in out.glob("manifests/*.json"))


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Every table of a folder: digest and size; what a kill left half written is none."""
    found = [p for p in folder.rglob("*.parquet") if not p.name.startswith(".")]
    return {
        str(p.relative_to(folder)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size)
        for p in found
    }


def bytes_below(folder: str, stored: dict[str, tuple[str, int]]) -> int:
    """How much is stored in a folder."""
    return sum(size for name, (_, size) in stored.items() if name.startswith(f"{folder}/"))


def members(path: Path) -> Iterator[int]:
    """Which packets a table answers."""
    if not path.name.startswith("."):
        yield from pq.ParquetFile(path).read(["member"])["member"].to_pylist()


def records(bootstrap: str) -> list[tuple[str, int, str]]:
    """Every answer that a read_committed reader sees: topic, packet, and the digest of all that is in it."""
    reader = TopicReader(ClusterSettings(brokers=bootstrap))
    try:
        return [
            (topic, int(dict(message.headers)["source_offset"] or b""), digest(message))
            for topic in (TOPIC, f"{TOPIC}-rejected")
            for message in sorted(
                all_messages(reader, topic), key=lambda found: (found.partition, found.offset)
            )
        ]
    finally:
        reader.close()


def digest(message: Message) -> str:
    """Digest of partition, key, headers and value, but for the moment at which it was made."""
    value: Any = message.value
    if message.partition.topic == TOPIC:
        container = fastavro.reader(BytesIO(value))
        value = [record | {"classified_at": None} for record in container], container.metadata
    headers = [(name, content) for name, content in message.headers if name != "rejected_at"]
    return hashlib.sha256(repr((message.partition, message.key, headers, value)).encode()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
