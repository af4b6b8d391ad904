"""Where writer schemas come from, by the id in the Confluent header."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable
from space2vec.schemas.folder import FolderSchemas
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.registry import RegistrySchemas
from space2vec.schemas.rubin import InstalledRubinSchemas
from space2vec.schemas.settings import SchemaSettings


class WriterSchemas(Protocol):
    """A source of writer schemas. Each schema is parsed once; the same object comes back ever after."""

    def get(self, schema_id: int) -> WriterSchema:
        """Give the schema of an id.

        Raises
        ------
        PacketError
            ``UNKNOWN_SCHEMA`` if there is none of that id, ``BAD_SCHEMA`` if it cannot be parsed.
        SchemaUnavailable
            If that cannot be known now.
        """
        ...


class ChainedSchemas:
    """Several sources, asked in order.

    Parameters
    ----------
    sources : iterable of WriterSchemas
        The first that has a schema gives it, and is not asked for it again: every packet asks. One that
        cannot answer now does not stop the next from answering, for as long as it cannot; only if none has
        the schema is it reported.
    """

    def __init__(self, sources: Iterable[WriterSchemas]) -> None:
        self._sources = tuple(sources)
        self._found: dict[int, WriterSchema] = {}

    def get(self, schema_id: int) -> WriterSchema:
        """Give the schema of an id; see :class:`WriterSchemas`."""
        found = self._found.get(schema_id)
        return found if found is not None else self._ask(schema_id)

    def _ask(self, schema_id: int) -> WriterSchema:
        reasons = []
        unavailable: SchemaUnavailable | None = None
        for source in self._sources:
            try:
                writer = source.get(schema_id)
            except SchemaUnavailable as error:
                unavailable = error
            except PacketError as error:
                if error.reason is not Reason.UNKNOWN_SCHEMA:
                    raise
                reasons.append(error.detail)
            else:
                if unavailable is None:
                    self._found[schema_id] = writer
                return writer
        if unavailable is not None:
            raise unavailable
        asked = "; ".join(reasons) or "no registry, folder or installed schemas to ask"
        raise PacketError(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id}: {asked}")


def writer_schemas(settings: SchemaSettings) -> WriterSchemas:
    """Build the sources that the settings name: the folder, the registry, and Rubin's installed schemas."""
    sources: list[WriterSchemas] = []
    if settings.folder is not None:
        sources.append(FolderSchemas(settings.folder))
    if settings.registry_url is not None:
        password = settings.registry_password
        sources.append(
            RegistrySchemas(
                settings.registry_url,
                user=settings.registry_user,
                password=password.get_secret_value() if password is not None else None,
                cache_dir=settings.cache,
            )
        )
    if InstalledRubinSchemas.available():
        sources.append(InstalledRubinSchemas())
    return ChainedSchemas(sources)
