"""The command line: verbs, what they share, and what their failures become.

Each verb is a module of :mod:`space2vec.stream.commands`, imported only when it is asked for: the help must not
wait for torch or Ray.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Final, NoReturn

from cyclopts import App, CycloptsError, Parameter

from space2vec.schemas.errors import KafkaError, ModelError, SchemaUnavailable, Space2vecError
from space2vec.schemas.exit_codes import INTERRUPTED, OK, USAGE, exit_code

VERBS: Final = {
    "run": "Join a consumer group and classify its alerts until told to stop.",
    "audit": "Prove from the topics that nothing is missing and nothing doubled.",
    "redrive": "Put dead letters through again, each once.",
    "replay": "Classify archives of alerts, from where a former replay left off.",
    "score": "Score alert packets in files; no Kafka needed.",
    "inspect": "Show what is in a packet: framing, schema, ids, stamps, faults.",
    "publish": "Publish the packets of archives to a topic, with the gaps they had.",
    "simulate": "Publish simulated alerts to Kafka, or write them to files.",
    "demo": "See it all run: broker, simulated alerts, classifier, and the accounts.",
    "dashboard": "Serve a page that shows the stream: rate, lag, candidates, the rejected.",
    "broker": "Start a Kafka broker for development.",
    "doctor": "Check what a run needs: Kafka, Ray, GPU, model; one line each.",
    "model": "Verify model bundles: files, digests, golden vectors.",
    "version": "Show the versions of space2vec and of what it stands on.",
}
EPILOGUE: Final = """\
Exit status: 0 finished; 1 failed; 2 wrong flag, setting or file; 3 Kafka;
4 model or writer schema; 5 drain deadline passed with work left;
130 interrupted.

Settings: flags, then SPACE2VEC_SECTION__NAME in the environment, then
--config FILE, then defaults.
"""
HINTS: Final[dict[type[Space2vecError], str]] = {
    KafkaError: "hint: `space2vec doctor -b HOST:PORT` says what can be reached and what it promises",
    ModelError: "hint: `space2vec model verify BUNDLE` checks a bundle file by file",
    SchemaUnavailable: "hint: pip install 'space2vec[rubin]', or give --schemas FOLDER or --registry URL",
}
EXTRAS: Final = {"scipy": "demo", "onnx": "training", "h5py": "training"}
"""Modules that not everyone has, and the extra that brings them."""

app = App(
    name="space2vec",
    help="A distributed streaming classifier for astronomical alert streams.",
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    version=lambda: f"space2vec {version('space2vec')}",
    result_action="return_value",
)
for _verb, _help in VERBS.items():
    app.command(f"space2vec.stream.commands.{_verb}:app", name=_verb, help=_help)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    verbose: Annotated[bool, Parameter(alias="-v", negative="", show_default=False)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative="", show_default=False)] = False,
    debug: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> object:
    """Run a verb.

    Parameters
    ----------
    verbose
        Log what happens to every alert.
    quiet
        Log warnings and errors only.
    debug
        Show a traceback when something fails.
    """
    from space2vec.stream.logs import configure_logs

    configure_logs(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    return app(tokens, exit_on_error=False, print_error=False)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit status.

    A verb returns its status, or ``None`` for success. Errors become one line on stderr, with a traceback only
    after ``--debug``.
    """
    try:
        status = app.meta(list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(str(error), USAGE)
    except BrokenPipeError:
        # The reader of our stdout has gone (`| head`): that is no failure. Nothing may be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _complain(_explained(error), _status(error))
    return status if isinstance(status, int) else OK


def _explained(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"needs {error.name}: pip install 'space2vec[{EXTRAS[error.name]}]'"
    if not isinstance(error, Space2vecError):
        return f"{type(error).__name__}: {error} (--debug shows where)"
    hint = next((hint for kind, hint in HINTS.items() if isinstance(error, kind)), "")
    return f"{error}\n{hint}" if hint else str(error)


def _status(error: Exception) -> int:
    missing = isinstance(error, ModuleNotFoundError) and error.name in EXTRAS
    return USAGE if missing else exit_code(error)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"space2vec: {message}\n")
    return status


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(run_command(sys.argv[1:]))
