"""Answers: from a scored batch to the records that go out, in the order the alerts came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotate import Annotator
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.classification import encode_classification
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.settings import SinkSettings
from space2vec.stream.batch import Batch, Outcome
from space2vec.stream.counts import Counts
from space2vec.stream.dead_letters import dead_letter, source_headers
from space2vec.stream.models import Look
from space2vec.stream.protocols import Headers, Message, OutputRecord


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out for one message, how it counts, and which alerts (survey and id) it answers."""

    records: list[OutputRecord]
    counts: Counts
    alerts: tuple[tuple[str, int], ...] = ()


class Answerer:
    """Turns scores into annotated alerts, classification records and dead letters.

    An alert gets an annotation and a classification record from every model that has a score of it; it is rejected
    where none has. What a shadow says goes to a topic of its own and decides nothing.
    """

    def __init__(self, annotator: Annotator, sink: SinkSettings, survey: str | None) -> None:
        self._annotator = annotator
        self._sink = sink
        self._survey = survey

    def answer(self, batch: Batch) -> list[Answer]:
        """One answer per message of the batch, in order; every look at it is done."""
        now = datetime.now(UTC)
        return [
            self._answer(message, outcomes, batch.looks, now)
            for message, outcomes in zip(batch.messages, batch.outcomes, strict=True)
        ]

    def refuse(self, message: Message, detail: str) -> Answer:
        """The answer to a message whose annotated alert the broker does not take."""
        error = PacketError(Reason.OUTPUT_REFUSED, detail)
        return self._answer(message, [Outcome(None, error)], [], datetime.now(UTC))

    def _answer(
        self, message: Message, outcomes: list[Outcome], looks: Sequence[Look], now: datetime
    ) -> Answer:
        counts = Counts(messages=1, empty=int(not outcomes))
        published = [look for look in looks if not look.model.shadow]
        said = [(outcome, self._annotations(outcome, published, now)) for outcome in outcomes]
        errors = [_error(outcome, published) for outcome, spoken in said if not spoken]
        answers = len(errors) + sum(len(spoken) for _, spoken in said)
        source = source_headers(message, len(outcomes), answers)
        records: list[OutputRecord] = []
        for outcome, spoken in said:
            if outcome.alert is None:
                continue
            if spoken:
                status = "degraded" if any(annotation.flags for annotation in spoken) else "scored"
                setattr(counts, status, getattr(counts, status) + 1)
                counts.flags.update({flag for annotation in spoken for flag in annotation.flags})
                counts.annotated += 1
                records += self._published(message, outcome.alert, spoken, source)
            if self._sink.shadow:
                topic = self._sink.shadow
                shadows = [look for look in looks if look.model.shadow]
                for annotation in self._annotations(outcome, shadows, now):
                    records.append(self._classification(topic, message, outcome.alert, annotation, source))
        if errors:
            counts.rejected += len(errors)
            counts.reasons.update(str(error.reason) for error in errors)
            topic = self._sink.rejected.format(survey=errors[0].survey or self._survey or "unknown")
            records.append(dead_letter(topic, message, errors, len(outcomes), answers))
        alerts = tuple((o.alert.survey, o.alert.alert_id) for o in outcomes if o.alert is not None)
        return Answer(records, counts, alerts)

    def _annotations(self, outcome: Outcome, looks: Sequence[Look], now: datetime) -> list[Annotation]:
        rows = [(look, look.rows.get(outcome.number)) for look in looks]
        return [self._annotation(look, row, now) for look, row in rows if row is not None]

    def _annotation(self, look: Look, row: int, now: datetime) -> Annotation:
        assert look.scores is not None
        manifest = look.model.bundle.manifest
        probability = float(look.probability[row])
        positive, negative = manifest.classes
        logit = float(look.scores.logit[row])
        spread = look.scores.spread
        groups = look.scores.groups[row].tolist()
        kinds, causes = manifest.outputs.kinds, manifest.outputs.causes
        return Annotation(
            classifier=manifest.name,
            version=manifest.version,
            sha256=look.model.bundle.sha256,
            score=probability,
            logit=logit,
            spread=None if spread is None else float(spread[row]),
            classes={positive: probability, negative: 1.0 - probability},
            flags=tuple(str(flag) for flag in look.flags[row]),
            embedding=tuple(look.scores.embedding[row].tolist()) if self._sink.embedding else (),
            classified_at=now,
            class_ids=dict(zip(manifest.classes, manifest.class_ids, strict=True)),
            passes=tuple(name for name, least in manifest.operating_points.items() if logit >= least),
            kinds=dict(zip(kinds, groups[: len(kinds)], strict=True)),
            causes=dict(zip(causes, groups[len(kinds) :], strict=True)),
        )

    def _published(
        self, message: Message, alert: Alert, annotations: list[Annotation], source: Headers
    ) -> list[OutputRecord]:
        records = []
        if self._sink.annotated:
            value = self._annotator.annotate(alert.packet, annotations)
            records.append(_record(self._sink.annotated, message, alert, annotations, value, source))
        if self._sink.classifications:
            topic = self._sink.classifications
            records += [self._classification(topic, message, alert, each, source) for each in annotations]
        return records

    def _classification(
        self, topic: str, message: Message, alert: Alert, annotation: Annotation, source: Headers
    ) -> OutputRecord:
        value = encode_classification(
            alert,
            annotation,
            topic=message.partition.topic,
            partition=message.partition.number,
            offset=message.offset,
            status="degraded" if annotation.flags else "scored",
        )
        return _record(topic, message, alert, [annotation], value, source)


def _record(
    topic: str,
    message: Message,
    alert: Alert,
    annotations: Sequence[Annotation],
    value: bytes,
    source: Headers,
) -> OutputRecord:
    """Make a record of an alert; its headers name every bundle that speaks in it."""
    key = (alert.object_id or str(alert.alert_id)).encode()
    names: list[tuple[str, bytes | None]] = []
    for annotation in annotations:
        names.append(("classifier", f"{annotation.classifier} {annotation.version}".encode()))
        names.append(("sha256", annotation.sha256.encode()))
    headers = (*message.headers, ("survey", alert.survey.encode()), *names, *source)
    return OutputRecord(topic.format(survey=alert.survey), key, value, headers, message)


def _error(outcome: Outcome, looks: Sequence[Look]) -> PacketError:
    """Why there is no score of an alert: it could not be read, or what the first model says."""
    if outcome.error is not None:
        return outcome.error
    alert = outcome.alert
    assert alert is not None
    found = (look.errors[outcome.number] for look in looks if outcome.number in look.errors)
    error = next(found, PacketError(Reason.SCORING_FAILED, "no score came back"))
    return PacketError(
        error.reason,
        error.detail,
        field=error.field,
        survey=alert.survey,
        alert_id=alert.alert_id,
        object_id=alert.object_id,
    )
