"""``space2vec doctor``: whether everything is there that a run needs."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated, Final

from cyclopts import App, Parameter

from space2vec.stream.commands.flags import Config, Json, KafkaFlags, ModelFlags, PacketFlags

EXAMPLES: Final = """\
Examples:
  space2vec doctor -b localhost:9092 -t ztf-alerts
  space2vec doctor --config night.toml --json

Exit status: 0 where a run would work, else that of the worst failure.
"""

app = App(name="doctor", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def doctor(
    *,
    topic: Annotated[tuple[str, ...], Parameter(alias="-t", negative_iterable=(), show_default=False)] = (),
    kafka: KafkaFlags | None = None,
    packets: PacketFlags | None = None,
    model: ModelFlags | None = None,
    config: Config = None,
    json_: Json = False,
) -> int:
    """Check what a run needs: Kafka, Ray, GPU, model; one line each.

    Parameters
    ----------
    topic
        Topic that a run would join; repeatable.
    config
        Settings file, TOML or YAML.
    json_
        One JSON line per check.
    """
    from space2vec.stream.checks import examine
    from space2vec.stream.config import explain_settings, load_settings

    overrides = {
        "source": {**(kafka or KafkaFlags()).overrides(), "topics": topic or None},
        "schemas": (packets or PacketFlags()).overrides(),
        "model": (model or ModelFlags()).overrides(),
    }
    settings = load_settings(config, overrides)
    logging.getLogger().setLevel(logging.CRITICAL)  # what librdkafka and Ray grumble about is told below
    if not json_:
        for setting in explain_settings(config, overrides):
            if setting.origin != "default":
                sys.stdout.write(f"set   {setting.name} = {setting.value}  ({setting.origin})\n")
    worst = 0
    for finding in examine(settings):
        if json_:
            told = {"check": finding.name, "state": finding.state, "detail": finding.detail}
            sys.stdout.write(json.dumps(told) + "\n")
        else:
            sys.stdout.write(f"{finding.state:<5} {finding.name}: {finding.detail}\n")
        sys.stdout.flush()
        worst = max(worst, finding.status)
    return worst
