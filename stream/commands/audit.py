"""``space2vec audit``: prove from the topics that nothing is missing and nothing doubled."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from space2vec.schemas.exit_codes import FAILED, OK
from space2vec.stream.commands.flags import Config, Json

if TYPE_CHECKING:
    from space2vec.stream.audit import Account

EXAMPLES: Final = """\
Says `balanced`, or lists each gap and double by offset. Works while the
stream runs: what was committed when the audit began is what it audits.

Examples:
  space2vec audit -b broker:9092 -t ztf_20261122_programid1 -g space2vec
  space2vec audit --config night.toml --json
  space2vec audit --replay parquet:scores/
"""

app = App(name="audit", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def audit(
    *,
    brokers: Annotated[str | None, Parameter(alias="-b")] = None,
    topic: Annotated[tuple[str, ...], Parameter(alias="-t", negative="")] = (),
    group: Annotated[str | None, Parameter(alias="-g")] = None,
    output_brokers: str | None = None,
    replay: str | None = None,
    config: Config = None,
    json_: Json = False,
) -> int:
    """Recount a stream from its topics: source, outputs, dead letters and ledger.

    Parameters
    ----------
    brokers
        Bootstrap servers of the source, host:port.
    topic
        Source topic; may be repeated.
    group
        Consumer group of the run.
    output_brokers
        Cluster of the outputs, where it is not the source's.
    replay
        Audit what `space2vec replay` put there instead: kafka:TOPIC, parquet:DIR or avro:DIR.
    config
        Settings file of the run.
    json_
        One JSON line.
    """
    from space2vec.stream.audit import audit as recount
    from space2vec.stream.config import load_settings

    overrides: dict[str, dict[str, Any]] = {
        "source": {"brokers": brokers, "topics": topic or None, "group": group},
        "sink": {"brokers": output_brokers},
    }
    settings = load_settings(config, overrides)
    if replay is None:
        accounts = recount(settings)
    else:
        from space2vec.stream.replay_audit import audit_replay

        accounts = audit_replay(settings, replay)
    balanced = all(account.balanced for account in accounts)
    if json_:
        sys.stdout.write(json.dumps(_as_json(accounts, balanced)) + "\n")
    else:
        _tell(accounts, balanced)
    return OK if balanced else FAILED


def _as_json(accounts: list[Account], balanced: bool) -> dict[str, object]:
    return {
        "balanced": balanced,
        "messages": sum(account.messages for account in accounts),
        "lost": sum(account.missing for account in accounts),
        "duplicated": sum(account.doubled for account in accounts),
        "partitions": [
            {
                "partition": str(account.partition),
                "first": account.first,
                "committed": account.committed,
                "messages": account.messages,
                "ledger": account.ledger,
                "findings": [str(finding) for finding in account.findings],
            }
            for account in accounts
        ],
    }


def _tell(accounts: list[Account], balanced: bool) -> None:
    for account in accounts:
        sys.stdout.write(
            f"{account.partition}: offsets {account.first} to {account.committed}, {account.messages} messages, "
            f"{account.missing} missing, {account.doubled} doubled, ledger says {account.ledger}\n"
        )
        for finding in account.findings:
            sys.stdout.write(f"  {finding}\n")
    sys.stdout.write("balanced\n" if balanced else "NOT balanced\n")
