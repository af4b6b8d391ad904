"""``space2vec version``."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from cyclopts import App

from space2vec.stream.commands.flags import Json

PACKAGES: Final = (
    "confluent-kafka",
    "ray",
    "torch",
    "onnxruntime",
    "numpy",
    "fastavro",
    "astropy",
    "lsst-alert-packet",
)
"""What results may depend on, beside Python."""

EXAMPLES: Final = """\
Examples:
  space2vec version
  space2vec version --json
"""

app = App(name="version", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def show(*, json_: Json = False) -> None:
    """Show the versions of space2vec and of what it stands on.

    Parameters
    ----------
    json_
        One JSON line instead of a list.
    """
    versions: dict[str, str | None] = {"space2vec": version("space2vec"), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    if json_:
        sys.stdout.write(json.dumps(versions) + "\n")
    else:
        width = max(map(len, versions))
        sys.stdout.writelines(
            f"{name:<{width}}  {found or 'not installed'}\n" for name, found in versions.items()
        )
