"""``space2vec model``: what a model bundle holds, and whether it still says what it said."""

from __future__ import annotations

import json
import sys
from typing import Final, Literal

from cyclopts import App

from space2vec.stream.commands.flags import Json
from space2vec.stream.exit_codes import MODEL, OK

EXAMPLES: Final = """\
Examples:
  space2vec model verify
  space2vec model verify my-bundle/ --device cuda --json
"""

app = App(name="model", help_epilogue=EXAMPLES, help_format="plaintext")


@app.command
def verify(
    bundle: str = "core", /, *, device: Literal["auto", "cpu", "cuda"] = "auto", json_: Json = False
) -> int:
    """Check a bundle: every file's digest, and the scores of its golden vectors on this machine.

    Parameters
    ----------
    bundle
        A shipped bundle's name, or a bundle's folder.
    device
        Where to score.
    json_
        One JSON line instead of a list.
    """
    from space2vec.workers.bundle import load_bundle, verify_bundle

    loaded = load_bundle(bundle)
    checks = verify_bundle(loaded, device)
    sound = all(check.ok for check in checks)
    manifest = loaded.manifest
    if json_:
        told = {
            "model": manifest.name,
            "version": manifest.version,
            "sha256": loaded.sha256,
            "ok": sound,
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks],
        }
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write(f"{manifest.name} {manifest.version}  {loaded.path}\nsha256 {loaded.sha256}\n")
        sys.stdout.writelines(f"{'ok  ' if c.ok else 'BAD '} {c.name}: {c.detail}\n" for c in checks)
    return OK if sound else MODEL
