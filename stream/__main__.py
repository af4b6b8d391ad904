"""``python -m space2vec.stream``: the same as the ``space2vec`` command."""

from space2vec.stream.cli import main

main()
