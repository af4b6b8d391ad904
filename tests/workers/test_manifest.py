from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from space2vec.schemas.errors import ModelError
from space2vec.workers.bundle import Bundle
from space2vec.workers.manifest import MAX_MANIFEST_BYTES, InputSpec, Manifest, parse_manifest


def altered(bundle: Bundle, path: str, value: Any) -> bytes:
    """The bundle's manifest with one value set, at a dotted path."""
    content = json.loads((bundle.path / "manifest.json").read_bytes())
    part = content
    *most, last = path.split(".")
    for key in most:
        part = part[key]
    part[last] = value
    return json.dumps(content).encode()


def test_survives_its_own_json(made_bundle: Bundle) -> None:
    content = (made_bundle.path / "manifest.json").read_bytes()
    assert parse_manifest(content, "here") == made_bundle.manifest
    assert made_bundle.manifest.to_json() == content


@pytest.mark.parametrize(
    "where", ["", "architecture.", "input.", "input.normalisation.", "outputs.", "calibration."]
)
def test_unknown_key_is_refused_and_named(made_bundle: Bundle, where: str) -> None:
    with pytest.raises(ModelError, match=rf"here: {where}surprise: Extra inputs"):
        parse_manifest(altered(made_bundle, f"{where}surprise", 1), "here")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "space2vec-bundle/2"),
        ("name", "Not A Name"),
        ("name", "../core"),
        ("version", ""),
        ("input.size", 0),
        ("input.size", 100000),
        ("input.planes", []),
        ("input.planes", ["science", "science"]),
        ("input.planes", ["science", "uncertainty"]),
        ("input.required", []),
        ("input.required", ["science", "template", "difference", "psf"]),
        ("input.padding", "edge"),
        ("input.sign", "as_sent"),
        ("input.normalisation.kind", "zscale"),
        ("input.normalisation.softening", 0),
        ("input.normalisation.clip", -8),
        ("outputs.embedding", -1),
        ("calibration.temperature", 0),
        ("classes", ["real", "real"]),
        ("classes", ["real"]),
        ("weights", "../weights.safetensors"),
        ("weights", "/etc/passwd"),
        ("golden", "network.onnx"),
        ("files", {}),
        ("files", {"weights.safetensors": "0" * 64}),
        ("files", {"weights.safetensors": "no digest"}),
    ],
)
def test_bad_value_is_refused(made_bundle: Bundle, path: str, value: Any) -> None:
    with pytest.raises(ModelError, match=r"^here: "):
        parse_manifest(altered(made_bundle, path, value), "here")


def test_nan_is_no_number(made_bundle: Bundle) -> None:
    content = altered(made_bundle, "calibration.temperature", float("nan"))
    with pytest.raises(ModelError, match=r"calibration\.temperature"):
        parse_manifest(content, "here")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_no_json_object(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^here: "):
        parse_manifest(content, "here")


def test_too_large(made_bundle: Bundle) -> None:
    content = (made_bundle.path / "manifest.json").read_bytes()
    with pytest.raises(ModelError, match="larger than"):
        parse_manifest(content + b" " * MAX_MANIFEST_BYTES, "here")


def test_is_frozen(made_manifest: Manifest) -> None:
    with pytest.raises(ValidationError):
        made_manifest.input.size = 5  # type: ignore[misc]


def test_json_schema_can_be_published() -> None:
    schema = Manifest.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "version", "architecture", "input"}


def test_default_requires_no_template() -> None:
    assert set(InputSpec(size=31).required) == {"science", "difference"}
