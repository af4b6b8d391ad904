"""Model bundles: a folder with a manifest, weights, an ONNX graph and golden vectors.

Nothing in a bundle is executed: weights and golden vectors are safetensors, the graph is ONNX, there is no pickle.
The manifest lists the SHA-256 of every file, so the manifest's own digest stands for the whole bundle; it is what
annotations carry. ``docs/bring-a-bundle.md`` is the format's description.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import Backend, open_backend
from space2vec.workers.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from space2vec.workers.preprocess import normalise_triplets
from space2vec.workers.scores import uncalibrated

SHIPPED = Path(__file__).parent / "bundles"
MANIFEST = "manifest.json"
MAX_FILE_BYTES = 1 << 30
TOLERANCE = 1e-4
"""How far a logit may be from its golden value, times the larger of 1 and that value, on any device."""

_CHECKED = {"logit": "logits", "embedding": "embeddings", "groups": "kinds and causes", "spread": "spreads"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest and files have been checked.

    Attributes
    ----------
    path : Path
        Its folder.
    manifest : Manifest
        What ``manifest.json`` says.
    sha256 : str
        SHA-256 of the bytes of ``manifest.json``, in hex.
    contents : mapping of str to bytes, optional
        Its files, where they are held in memory.
    """

    path: Path
    manifest: Manifest
    sha256: str
    contents: Mapping[str, bytes] | None = field(default=None, repr=False, compare=False)

    def held(self) -> Bundle:
        """Give the bundle with its files in memory: for other processes, whatever becomes of the folder meanwhile.

        Raises
        ------
        ModelError
            As :meth:`read`.
        """
        return replace(self, contents={name: self.read(name) for name in self.manifest.files})

    def read(self, name: str) -> bytes:
        """Read one of the bundle's files, checking its digest.

        Raises
        ------
        ModelError
            If the file is not listed, cannot be read, is too large, or has another digest.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise ModelError(f"{self.path / name}: not listed in {MANIFEST}")
        if self.contents is not None:
            return self.contents[name]
        content = _read(self.path / name, MAX_FILE_BYTES)
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise ModelError(f"{self.path / name}: SHA-256 is {found}, {MANIFEST} says {expected}")
        return content

    def golden(self) -> Golden:
        """Read the golden vectors.

        Raises
        ------
        ModelError
            If a tensor is missing or has a shape that does not follow from the manifest.
        """
        where = self.path / self.manifest.golden
        try:
            tensors = safetensors.numpy.load(self.read(self.manifest.golden))
        except SafetensorError as error:
            raise ModelError(f"{where}: {error}") from error
        spec, outputs = self.manifest.input, self.manifest.outputs
        count, depth = len(tensors.get("stamps", ())), len(spec.planes)
        shapes = {
            "pixels": (count, depth, *tensors.get("pixels", np.empty(0)).shape[2:4]),
            "stamps": (count, depth, spec.size, spec.size),
            **{name: outputs.shape(name, count) for name in outputs.names},
        }
        if not count:
            raise ModelError(f"{where}: holds no golden vector")
        for name, shape in shapes.items():
            if name not in tensors:
                raise ModelError(f"{where}: {name} is missing")
            if tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise ModelError(
                    f"{where}: {name} is {tensors[name].shape} {tensors[name].dtype}, not {shape} float32"
                )
        return Golden(tensors["pixels"], tensors["stamps"], {name: tensors[name] for name in outputs.names})


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden vectors: stamps, and what must come of them.

    Attributes
    ----------
    pixels : (K, P, H, W) float32
        Pixel values, source at the centre, NaN where there is none.
    stamps : (K, P, S, S) float32
        The same, normalised.
    outputs : dict of str to NDArray
        What the network says, by name of output: before temperature, kinds and causes as probabilities.
    """

    pixels: NDArray[np.float32]
    stamps: NDArray[np.float32]
    outputs: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified of a bundle, and what was found."""

    name: str
    ok: bool
    detail: str


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Find a bundle and check that its files are what its manifest says.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped bundle, or a folder.

    Raises
    ------
    ModelError
        If there is no such bundle, its manifest is wrong, or a file is missing or altered.
    """
    path = _find(str(name_or_path))
    content = _read(path / MANIFEST, MAX_MANIFEST_BYTES)
    manifest = parse_manifest(content, str(path / MANIFEST))
    bundle = Bundle(path, manifest, hashlib.sha256(content).hexdigest())
    for name in manifest.files:
        bundle.read(name)
    return bundle


def write_files(folder: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Bundle:
    """Write a bundle; one that is in the folder is replaced.

    Parameters
    ----------
    folder : Path
        Made if need be.
    manifest : Manifest
        Without ``files``: they are filled in here.
    contents : mapping of str to bytes
        The files that it names.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    folder.mkdir(parents=True, exist_ok=True)
    # The manifest goes first and comes last: a folder left half written is no bundle.
    (folder / MANIFEST).unlink(missing_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(manifest.model_copy(update={"files": digests}).to_json())
    return load_bundle(folder)


def shipped_bundles() -> list[str]:
    """Names of the bundles that come with space2vec."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}"))


def verify_bundle(bundle: Bundle, device: str = "auto") -> list[Check]:
    """Check a bundle from its files to its scores: what ``space2vec model verify`` tells.

    Parameters
    ----------
    bundle : Bundle
        From :func:`load_bundle`.
    device : {'auto', 'cpu', 'cuda'}
        Where to score.
    """
    return [check for part in (_check_files(bundle), _check_scores(bundle, device)) for check in part]


def check_golden(bundle: Bundle, backend: Backend) -> list[Check]:
    """Check that golden stamps still become the golden inputs and outputs here.

    What every classifier runs before it serves.
    """
    golden = bundle.golden()
    found = uncalibrated(backend.score(golden.stamps), bundle.manifest)
    return [
        _compare("preprocessing", normalise_triplets(golden.pixels, bundle.manifest.input), golden.stamps),
        *(
            _compare(f"{_CHECKED[name]} on {backend.device}", found[name], expected)
            for name, expected in golden.outputs.items()
        ),
    ]


def _check_files(bundle: Bundle) -> Iterator[Check]:
    for name in bundle.manifest.files:
        try:
            yield Check(name, True, f"{len(bundle.read(name))} bytes, SHA-256 as listed")
        except ModelError as error:
            yield Check(name, False, str(error))


def _check_scores(bundle: Bundle, device: str) -> Iterator[Check]:
    try:
        yield from check_golden(bundle, open_backend(bundle, device))
    except ModelError as error:
        yield Check(f"scores on {device}", False, str(error))


def _compare(name: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Check:
    if found.shape != expected.shape:
        return Check(name, False, f"shape {found.shape}, not {expected.shape}")
    gaps = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    # NaN must fail, hence not `gap > TOLERANCE`.
    gap = float(gaps.max(initial=0.0))
    return Check(name, gap <= TOLERANCE, f"largest difference {gap:.1e} over {len(expected)} golden vectors")


def _find(name: str) -> Path:
    for path in (SHIPPED / name, Path(name)) if name in shipped_bundles() else (Path(name),):
        if path.is_dir():
            return path
    raise ModelError(
        f"{name}: neither a folder nor a shipped bundle ({', '.join(shipped_bundles()) or 'none'})"
    )


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    if len(content) > limit:
        raise ModelError(f"{path}: larger than {limit} bytes")
    return content
