"""Which models serve: started as the settings say, kept where they serve already, replaced while the stream runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from space2vec.schemas.settings import ModelSettings, Settings
from space2vec.workers.bundle import Bundle, load_bundle


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle and the classifiers that have come out right on its golden vectors."""

    bundle: Bundle
    classifiers: tuple[Any, ...]
    shadow: bool

    @property
    def role(self) -> tuple[str, bool, int]:
        """The bundle's digest, whether it is a shadow, and by how many it is served."""
        return self.bundle.sha256, self.shadow, len(self.classifiers)


def named_bundles(model: ModelSettings) -> list[tuple[str, bool]]:
    """Every bundle that the settings name, and whether it is the shadow."""
    published = [(name, False) for name in (model.bundle, *model.also)]
    return [*published, (model.shadow, True)] if model.shadow else published


def start_lineup(settings: Settings, serving: Sequence[Served] = ()) -> list[Served]:
    """Start classifiers for every bundle that the settings name.

    Parameters
    ----------
    settings : Settings
        ``model.bundle`` first, then ``model.also``, then ``model.shadow``; ``ray.classifiers`` for each.
    serving : sequence of Served
        Whose classifiers go on where the bundle is the same, by its digest.

    Raises
    ------
    ModelError
        If a bundle is wrong or cannot be served, or is named twice; then nothing is left started.
    """
    import ray

    from space2vec.schemas.errors import ModelError
    from space2vec.workers.classifier import start_classifiers

    bundles = [(load_bundle(name), shadow) for name, shadow in named_bundles(settings.model)]
    digests = [bundle.sha256 for bundle, _ in bundles]
    for bundle, _ in bundles:
        if digests.count(bundle.sha256) > 1:
            raise ModelError(f"{bundle.path}: named twice among model.bundle, model.also and model.shadow")
    there = {served.bundle.sha256: served.classifiers for served in serving}
    count = settings.ray.classifiers
    lineup: list[Served] = []
    started: list[Any] = []
    try:
        for bundle, shadow in bundles:
            stay = there.get(bundle.sha256, ())[:count]
            new = start_classifiers(bundle, count - len(stay), settings) if len(stay) < count else []
            started += new
            lineup.append(Served(bundle, (*stay, *new), shadow))
    except ModelError:
        for classifier in started:
            ray.kill(classifier)
        raise
    return lineup
