"""Score a bundle on simulated surveys it never saw and, where there are any, on labelled real stamps.

``python -m space2vec.training.evaluate --bundle core --stamps FOLDER --report FOLDER``
"""

from __future__ import annotations

import sys
from functools import partial
from json import dump
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from space2vec.training.command import run
from space2vec.training.dataset import STAMP_SIZES
from space2vec.training.kept import kept_numbers, kept_table
from space2vec.training.labelled import read_labelled
from space2vec.training.metrics import OPERATING_FPR
from space2vec.training.on_real import on_lsst, on_ztf
from space2vec.training.on_simulated import Found, Judged, against, judge, on_simulated
from space2vec.training.simulate import Candidates, generate, simulators
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle

TRAINING_SEED = 1
"""Seed of the candidates that the baselines learn from: the shipped network's own."""


def evaluate(
    name: str,
    count: int,
    stamps: Path | None,
    console: Console,
    *,
    baselines: int = 0,
    seeds: int = 3,
    processes: int = 2,
    ray_address: str | None = None,
    kept: Path | None = None,
) -> Found:
    """Evaluate a bundle.

    Parameters
    ----------
    name : str
        A shipped bundle's name, or a folder.
    count : int
        Simulated candidates per survey.
    stamps : Path or None
        Real stamps; what is not there is left out.
    console
        Told what is going on.
    baselines : int
        Candidates per survey that a random forest and gradient boosting learn from; 0 for none.
    seeds : int
        How often each of them learns.
    processes : int
        Processes that simulate.
    ray_address : str, optional
        Ray cluster that simulates instead.
    kept : Path or None
        Folder where simulated candidates and the baselines' results stay for the next bundle.
    """
    bundle = load_bundle(name)
    backend, manifest = open_backend(bundle, "cpu"), bundle.manifest
    simulated: Found = {}
    with simulators(processes, ray_address) as at_once:
        for survey in STAMP_SIZES:
            console.print(f"judging {count} simulated {survey} candidates")
            file = kept / f"judged-{survey}-{count}.npz" if kept else None
            judged = judge(backend, manifest, survey, count, processes=at_once, file=file)
            found = on_simulated(judged, manifest)
            if baselines:
                console.print(f"teaching the baselines {baselines} {survey} candidates")
                file = kept / f"baselines-{survey}-{count}-{baselines}-{seeds}.json" if kept else None
                found["baselines"] = kept_numbers(
                    file, partial(_baselines, judged, survey, baselines, seeds, at_once, kept)
                )
            simulated[survey] = found
    real: Found = {}
    for survey, judgement in (("ztf", on_ztf), ("lsst", on_lsst)):
        if stamps is not None and (stamps / f"{survey}.npz").is_file():
            console.print(f"reading real {survey} stamps")
            real[survey] = judgement(backend, manifest, read_labelled(stamps, survey))
    return {"bundle": manifest.name, "version": manifest.version, "sha256": bundle.sha256,
            "count": count, "baselines": baselines, "simulated": simulated, "real": real}  # fmt: skip


def _baselines(
    judged: Judged, survey: str, count: int, seeds: int, processes: int, kept: Path | None
) -> JsonValue:
    make = partial(generate, survey, count, TRAINING_SEED, size=STAMP_SIZES[survey][1], processes=processes)
    file = kept / f"taught-{survey}-{count}.npz" if kept else None
    return against(judged, kept_table(file, Candidates, make), range(seeds))


def table(found: Found) -> Table:
    """The headline figures as a table."""
    page = Table("what", "real", "bogus", "AUC", "95 %", f"missed at {OPERATING_FPR:.1%} FPR")

    def row(what: str, part: JsonValue) -> None:
        if isinstance(part, dict) and "auc" in part:
            interval = f"{part['auc_low']:.4f} to {part['auc_high']:.4f}"
            page.add_row(
                what,
                str(part["real"]),
                str(part["bogus"]),
                f"{part['auc']:.4f}",
                interval,
                f"{part['mdr']:.1%}",
            )

    simulated, real = found["simulated"], found["real"]
    assert isinstance(simulated, dict)
    assert isinstance(real, dict)
    for survey, part in simulated.items():
        assert isinstance(part, dict)
        row(f"simulated {survey}", part["overall"])
    for survey, part in real.items():
        assert isinstance(part, dict)
        for what, measured in part.items():
            row(f"real {survey}: {what}", measured)
    return page


def main(
    *,
    bundle: str = "core",
    stamps: Path | None = None,
    count: int = 6000,
    report: Path | None = None,
    baselines: int = 50_000,
    seeds: int = 3,
    processes: int = 2,
    ray_address: str | None = None,
    kept: Path | None = None,
    json: bool = False,
) -> None:
    """Evaluate a bundle.

    Parameters
    ----------
    bundle
        Name of a shipped bundle, or a folder.
    stamps
        Folder with real stamps and labels (``ztf.npz`` and ``ztf.csv``, the same for ``lsst``).
    count
        Simulated candidates per survey.
    report
        Folder for a report: ``report.md`` with its plots, and the numbers as ``report.json``. Only then the
        baselines learn, which takes some minutes.
    baselines
        Candidates per survey that the baselines learn from.
    seeds
        How often each baseline learns.
    processes
        Processes that simulate: 1 is this one, more are on a Ray started here.
    ray_address
        Ray cluster to join, which simulates on all its CPUs instead; none: --processes here.
    kept
        Folder where the simulated candidates and the baselines' results stay, so that other bundles are
        judged by the same in less time. Empty it when the simulator or the features have changed.
    json
        Print everything as JSON on standard output instead of a table.
    """
    found = evaluate(
        bundle,
        count,
        stamps,
        Console(stderr=True),
        baselines=baselines if report else 0,
        seeds=seeds,
        processes=processes,
        ray_address=ray_address,
        kept=kept,
    )
    if report is not None:
        # Not at the top: only reports are drawn.
        from space2vec.training.report import write_report

        write_report(found, report)
    if json:
        dump(found, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        Console().print(table(found))


if __name__ == "__main__":
    run(main)
