"""What the programs of training say where something is wrong."""

from __future__ import annotations

import pytest

from space2vec.schemas.errors import ConfigError, ModelError
from space2vec.schemas.exit_codes import MODEL, USAGE
from space2vec.training.command import run


@pytest.mark.parametrize(("error", "status"), [(ConfigError, USAGE), (ModelError, MODEL)])
def test_an_error_is_a_line_and_a_status(error, status, capsys, monkeypatch) -> None:
    def program() -> None:
        raise error("no such thing")

    # It refuses to read pytest's own command line.
    monkeypatch.setattr("cyclopts.run", lambda program: program())
    with pytest.raises(SystemExit) as ended:
        run(program)
    assert ended.value.code == status
    assert capsys.readouterr().err == "no such thing\n"
