"""Writer schemas that cost more than their bytes."""

from __future__ import annotations

from random import Random
from typing import Any

from space2vec.training.packet_schemas import ZTF_VERSIONS, lsst_writer_schema, ztf_writer_schema

TINY: dict[str, Any] = {"type": "record", "name": "tiny", "fields": []}
_KINDS_OF_TYPE = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


def _record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def _some_type(rng: Random, depth: int = 0) -> Any:
    if depth > 4 or rng.random() < 0.5:
        return rng.choice(_KINDS_OF_TYPE)
    inner = _some_type(rng, depth + 1)
    return rng.choice(
        (
            {"type": "array", "items": inner},
            {"type": "map", "values": inner},
            ["null", inner] if isinstance(inner, str) and inner != "null" else inner,
            {"type": "enum", "name": f"e{rng.randrange(10**9)}", "symbols": ["a", "b"]},
            {
                "type": "fixed",
                "name": f"f{rng.randrange(10**9)}",
                "size": rng.choice((0, 1, 1 << 20, 1 << 40)),
            },
            _record(
                f"r{rng.randrange(10**9)}",
                {f"x{i}": _some_type(rng, depth + 1) for i in range(rng.randint(0, 4))},
            ),
        )
    )


def hostile_schema(rng: Random) -> Any:
    """A schema that costs more than its bytes."""
    wide = rng.choice((100, 1000, 3000, 8000))
    kind = rng.choice(_KINDS_OF_TYPE)
    survey = rng.choice((ztf_writer_schema(rng.choice(ZTF_VERSIONS)), lsst_writer_schema("11.0")))
    fields = survey["fields"]
    more = [{"name": f"more{i}", "type": rng.choice((kind, ["null", kind]))} for i in range(wide // 2)]
    at = rng.randrange(len(fields) + 1)
    doubling = {f"r{i}": _record(f"R{i}", dict.fromkeys("ab", f"R{i - 1}") if i else {}) for i in range(40)}
    return rng.choice(
        (
            lambda: _record("alert", {"next": ["null", "alert"]}),
            lambda: _record("alert", {"next": {"type": "array", "items": "alert"}}),
            lambda: _record("alert", doubling),
            lambda: _record("alert", {f"f{i}": kind for i in range(wide)}),
            lambda: _record(
                "alert", {"a": {"type": "array", "items": _record("i", {f"f{i}": kind for i in range(wide)})}}
            ),
            lambda: _record(
                "alert", {"a": {"type": "array", "items": _record("i", {"n": "null", "b": "boolean"})}}
            ),
            lambda: [_record(f"alert{i}", {"candid": "long"}) for i in range(wide // 10)],
            lambda: "[" * rng.randrange(10_000),
            lambda: survey | {"fields": [*fields[:at], *more, *fields[at:]]},
            lambda: (
                survey | {"fields": [*fields[:at], {"name": "more", "type": _some_type(rng)}, *fields[at:]]}
            ),
            lambda: survey | {"fields": rng.sample(fields, rng.randint(1, len(fields)))},
            lambda: _record("alert", {f"x{i}": _some_type(rng) for i in range(rng.randint(1, 30))}),
            lambda: TINY,
        )
    )()
