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
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from made_night import made_night, without_records, write_night, write_schemas
from programs import Ended, Programs, kill
from replay_outputs import bytes_below, files, members, parts, reach, records

from space2vec.schemas.settings import ClusterSettings
from space2vec.stream.broker_apache import ApacheCluster
from space2vec.stream.replay_folder import PART_MEMBERS
from space2vec.stream.topic_reader import TopicReader

PART = 512
"""Packets per part file here: so a kill falls among forty parts of this night, as among those of a long one."""
VERB = (
    f"import sys; from space2vec.stream import replay_folder; replay_folder.PART_MEMBERS = {PART}; "
    "from space2vec.stream.cli import run_command; sys.exit(run_command(sys.argv[1:]))"
)
TOPIC, SOURCE = "rescored", "alerts"
LIVE = Path(__file__).with_name("replay_live.py")
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
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="space2vec-replay-") as folder:
        result = Bench(args, Path(folder)).run()
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))
    tried = [result[to] for to in ("parquet", "kafka") if to in result]
    return 0 if all(each["equal"] and each["accounted"] == args.alerts for each in tried) else 1


class Bench:
    """One run."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.random = random.Random(args.seed)
        self.programs = Programs(folder)
        self.silent = without_records(args.alerts, args.damaged)
        """Packets that rightly have no answer."""
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
        undisturbed = self.programs.ended(self.start(f"parquet:{calm}"))
        kills = self.kill_among_parts(out, undisturbed.wall_s)
        last = self.programs.ended(self.start(f"parquet:{out}"))
        self.programs.run("audit", "--replay", f"parquet:{out}")  # raises where it finds anything
        stored = files(out)
        rows = Counter(member for path in out.glob("alerts/**/*.parquet") for member in members(path))
        rejected = Counter(member for path in out.glob("rejected/*.parquet") for member in members(path))
        summary = last.summary()
        silent = self.args.alerts - len(rows | rejected)
        return {
            "kills": kills,
            "accounted": len(rows | rejected) + min(silent, self.silent),
            "rows": rows.total(),
            "rejected": rejected.total(),
            "without_records": silent,
            "answered_by_the_last_call": summary["fresh"],
            "audited": True,
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
            undisturbed = self.programs.ended(self.start(f"kafka:{TOPIC}", "-b", cluster.bootstrap))
            calm = records(cluster.bootstrap, TOPIC)
            lived = self.live(cluster.bootstrap)
        with ApacheCluster(1, self.folder / "second") as cluster:
            kills = self.kill_among_commits(cluster.bootstrap, undisturbed.wall_s)
            last = self.programs.ended(self.start(f"kafka:{TOPIC}", "-b", cluster.bootstrap))
            found = records(cluster.bootstrap, TOPIC)
            self.programs.run("audit", "--replay", f"kafka:{TOPIC}", "-b", cluster.bootstrap)
        answered = {member for _, member, _ in found}
        silent = self.args.alerts - len(answered)
        told = {
            "kills": kills,
            "accounted": len(answered) + min(silent, self.silent),
            "records": sum(topic == TOPIC for topic, _, _ in found),
            "rejected": sum(topic != TOPIC for topic, _, _ in found),
            "without_records": silent,
            "answered_by_the_last_call": last.summary()["fresh"],
            "audited": True,
            "equal": found == calm,
            **self.cost(undisturbed),
        }
        return told, lived

    def kill_among_commits(self, bootstrap: str, calm_s: float) -> int:
        """Kill it a random time after a random number of answers; how often it could be done."""
        reader, kills = TopicReader(ClusterSettings(brokers=bootstrap)), 0
        most = self.args.alerts // (self.args.kills + 2)
        for _ in range(self.args.kills):
            wanted = reach(reader, TOPIC) + self.random.randint(0, most)
            process = self.start(f"kafka:{TOPIC}", "-b", bootstrap)
            while process.poll() is None and reach(reader, TOPIC) < wanted:
                time.sleep(0.05)
            time.sleep(self.random.random() * calm_s / 100)
            kills += kill(process)
        reader.close()
        return kills

    def live(self, bootstrap: str) -> dict[str, Any]:
        """Publish the night, and put it through as the live stream would be."""
        self.programs.run("publish", str(self.night), "--to", SOURCE, "-b", bootstrap)
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
        program = [sys.executable, str(LIVE), str(settings), str(self.args.alerts)]
        lived = self.programs.ended(self.programs.start(program))
        if lived.summary()["messages"] != self.args.alerts:
            raise RuntimeError(f"the live path did not get every packet: {lived.said}")
        return self.cost(lived)

    # ---- memory, disk -------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Most memory held over small and large archives of small packets, in parts of the usual size."""
        held: dict[str, Any] = {"part": PART_MEMBERS}
        for count in (*SIZES, self.args.large):
            path = self.folder / f"{count}.tar.gz"
            write_night(path, made_night(count, 0.0, SMALL_SIDE))
            ended = self.programs.run(*self.verb(path, f"parquet:{self.folder / str(count)}"))
            held[str(count)] = self.cost(ended) | {"alerts": ended.summary()["alerts"]}
            path.unlink()
        return held

    def cost(self, ended: Ended) -> dict[str, Any]:
        left = sum(path.stat().st_size for path in self.programs.temporary.rglob("*") if path.is_file())
        told = ended.summary()
        messages = told["messages"] if "messages" in told else sum(each["messages"] for each in told["each"])
        return {
            "alerts_per_cpu_s": round(messages / ended.cpu_s, 1),
            "cpu_s": round(ended.cpu_s, 1),
            "wall_s": round(ended.wall_s, 1),
            "peak_mib": round(ended.peak_mib),
            "written_mib": round(ended.written_mib, 1),
            "temporary_bytes": left,
        }

    # ---- processes -------------------------------------------------------------------------------------------

    def verb(self, night: Path, to: str) -> list[str]:
        return ["replay", str(night), "--to", to, "--config", str(self.config), "--local", "--json"]

    def start(self, to: str, *more: str) -> subprocess.Popen[bytes]:
        return self.programs.start([sys.executable, "-c", VERB, *self.verb(self.night, to), *more])


if __name__ == "__main__":
    raise SystemExit(main())
