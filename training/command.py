"""The programs of training as commands: what is wrong with what was asked for is said in a line, not in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

import cyclopts

from space2vec.schemas.errors import Space2vecError
from space2vec.schemas.exit_codes import exit_code


def run(program: Callable[..., None]) -> None:
    """Run a program by the command line, and end with the status that ``space2vec`` would end with.

    Parameters
    ----------
    program : callable
        Its parameters become flags.
    """
    try:
        cyclopts.run(program)
    except Space2vecError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(exit_code(error))
