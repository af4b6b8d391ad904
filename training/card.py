"""The card of a trained bundle: how it came about, how good it was, what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from space2vec.training.metrics import OPERATING_FPR, Performance
from space2vec.workers.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Report:
    """What a training run did and found.

    Attributes
    ----------
    recipe : mapping
        Settings that decide the weights.
    examples : int
        Simulated candidates trained on.
    seen : tuple of (str, int)
        Real alerts trained on, by survey; empty where there were none.
    prior : float
        Fraction of them that is real: the prior in the published probability.
    digest : str
        SHA-256 of the training set.
    losses : list of float
        Mean training loss of each epoch.
    temperature : float
        Calibration found on held-out candidates.
    points : mapping of str to float
        Operating points: logits from which on an alert passes.
    held_out : mapping of str to Performance
        By survey, on simulated fields that share nothing with those trained on.
    device : str
        What the network was trained on: ``cpu``, ``cuda``.
    wall_s, cpu_s : float
        Seconds the run took; CPU time without that of the simulating processes.
    """

    recipe: Mapping[str, int | float]
    examples: int
    seen: tuple[tuple[str, int], ...]
    prior: float
    digest: str
    losses: list[float]
    temperature: float
    points: Mapping[str, float]
    held_out: Mapping[str, Performance]
    device: str
    wall_s: float
    cpu_s: float

    @property
    def data(self) -> str:
        """What it was trained on, in a clause."""
        simulated = f"trained on {self.examples} simulated candidates"
        if not self.seen:
            return f"{simulated} and no real alert"
        real = " and ".join(f"{count} of {survey.upper()}" for survey, count in self.seen)
        return f"{simulated}, fine-tuned on real alerts ({real})"

    def summary(self) -> dict[str, JsonValue]:
        """What the manifest says of the training."""
        return {
            "data": self.data,
            "recipe": dict(self.recipe),
            "examples": self.examples,
            "prior_real": round(self.prior, 4),
            "data_sha256": self.digest,
            "held_out": {survey: dict(found.rounded()) for survey, found in self.held_out.items()},
        }

    def card(self, manifest: Manifest) -> str:
        """The card as Markdown."""
        settings = " ".join(_flag(name, value) for name, value in self.recipe.items())
        stamps = "--stamps ../shared/stamps " if self.seen else ""
        weights = (
            "; so do the weights on one thread of the same kind of processor" if self.device == "cpu" else ""
        )
        rows = [
            f"| {survey} | {f.real} / {f.bogus} | {f.auc:.4f} ({f.auc_low:.4f} to {f.auc_high:.4f}) "
            f"| {f.mdr:.1%} | {f.ece:.3f} |"
            for survey, f in self.held_out.items()
        ]
        return "\n".join(
            [
                f"# {manifest.name} {manifest.version}",
                "",
                manifest.description,
                "",
                "## How it came about",
                "",
                f"    python -m space2vec.training.train --out workers/bundles/core {stamps}--threads 1 --device {self.device} {settings}",
                "",
                f"- It was {self.data}.",
                f"- The simulated ones are of ZTF, DES and LSST, {self.prior:.1%} real, labelled by injected truth. Labels",
                "  of real alerts are known asteroids and other models' scores, which weigh less; they are no truth. Objects",
                "  with 40 % of the hashes were held out (`space2vec.training.tiers`).",
                f"- Seed {self.recipe['seed']}; SHA-256 of the training set:",
                f"  `{self.digest}`.",
                f"  The set repeats bit for bit with the same code and library versions{weights}.",
                f"- Loss by epoch: {', '.join(f'{loss:.4f}' for loss in self.losses)}.",
                f"- Temperature {self.temperature:.3f} and operating points (published logits) from half of the held-out",
                f"  simulated candidates: {', '.join(f'{name} {least:.2f}' for name, least in self.points.items())}.",
                f"- Took {self.wall_s:.0f} s, of which {self.cpu_s:.0f} s of CPU in the training process.",
                "",
                "## How good it is",
                "",
                "The other half of the held-out simulated candidates, without glints:",
                "",
                f"| survey | real / bogus | AUC (95 % bootstrap) | missed at {OPERATING_FPR:.1%} FPR | ECE |",
                "|---|---|---|---|---|",
                *rows,
                "",
                "Figures on real alerts: `docs/training.md`.",
                "",
                "## What it cannot do",
                "",
                "- Tell a glint of a satellite from a transient without a host: both are points of light.",
                "- Tell kinds by more than their surroundings: that head is trained on simulated sky.",
                "- See beyond 31 pixels, so long trails and ghosts are judged by their middle.",
                f"- The probability holds for a stream with {self.prior:.0%} real detections;",
                "  correct the log-odds where yours has another share.",
                "",
            ]
        )


def _flag(name: str, value: float | bool) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag} {value}"
