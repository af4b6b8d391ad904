"""Answers: from a scored batch to the records that go out, in the order the alerts came in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from space2vec.schemas.alert import Alert
from space2vec.schemas.annotate import Annotator
from space2vec.schemas.annotation import Annotation
from space2vec.schemas.classification import encode_classification
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.settings import SinkSettings
from space2vec.stream.batch import Batch, Outcome
from space2vec.stream.counts import Counts
from space2vec.stream.dead_letters import dead_letter, source_headers
from space2vec.stream.protocols import Message, OutputRecord
from space2vec.workers.bundle import Bundle
from space2vec.workers.scores import Scores


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out for one message, how it counts, and which alerts (survey and id) it answers."""

    records: list[OutputRecord]
    counts: Counts
    alerts: tuple[tuple[str, int], ...] = ()


class Answerer:
    """Turns scores into annotated alerts, classification records and dead letters."""

    def __init__(self, bundle: Bundle, annotator: Annotator, sink: SinkSettings, survey: str | None) -> None:
        self._bundle = bundle
        self._annotator = annotator
        self._sink = sink
        self._survey = survey

    def answer(self, batch: Batch, scores: Scores | None) -> list[Answer]:
        """One answer per message of the batch, in order.

        Parameters
        ----------
        scores : Scores or None
            Of the batch's rows; ``None`` where no alert of the batch could be scored.
        """
        now = datetime.now(UTC)
        probability = scores.probability if scores is not None else np.empty(0)

        def annotate(outcome: Outcome) -> Annotation | None:
            if scores is None or outcome.row is None or outcome.error is not None:
                return None
            return self._annotation(outcome, scores, float(probability[outcome.row]), now)

        return [
            self._answer(message, outcomes, annotate)
            for message, outcomes in zip(batch.messages, batch.outcomes, strict=True)
        ]

    def refuse(self, message: Message, detail: str) -> Answer:
        """The answer to a message whose annotated alert the broker does not take."""
        error = PacketError(Reason.OUTPUT_REFUSED, detail)
        return self._answer(message, [Outcome(None, error)], lambda _: None)

    def _annotation(self, outcome: Outcome, scores: Scores, probability: float, now: datetime) -> Annotation:
        assert outcome.row is not None
        manifest = self._bundle.manifest
        positive, negative = manifest.classes
        return Annotation(
            classifier=manifest.name,
            version=manifest.version,
            sha256=self._bundle.sha256,
            score=probability,
            logit=float(scores.logit[outcome.row]),
            spread=None,
            classes={positive: probability, negative: 1.0 - probability},
            flags=tuple(str(flag) for flag in outcome.flags),
            embedding=tuple(scores.embedding[outcome.row].tolist()) if self._sink.embedding else (),
            classified_at=now,
            class_ids=dict(zip(manifest.classes, manifest.class_ids, strict=True)),
        )

    def _answer(
        self, message: Message, outcomes: list[Outcome], annotate: Callable[[Outcome], Annotation | None]
    ) -> Answer:
        counts = Counts(messages=1, empty=int(not outcomes))
        records: list[OutputRecord] = []
        errors: list[PacketError] = []
        for outcome in outcomes:
            annotation = annotate(outcome)
            if annotation is None or outcome.alert is None:
                error = outcome.error or PacketError(Reason.SCORING_FAILED, "no score came back")
                errors.append(error)
                counts.rejected += 1
                counts.reasons[str(error.reason)] += 1
                continue
            status = "degraded" if annotation.flags else "scored"
            records += self._records(message, outcome.alert, annotation, status, len(outcomes))
            setattr(counts, status, getattr(counts, status) + 1)
            counts.flags.update(annotation.flags)
            counts.annotated += 1
        if errors:
            survey = errors[0].survey or self._survey or "unknown"
            records.append(
                dead_letter(self._sink.rejected.format(survey=survey), message, errors, len(outcomes))
            )
        alerts = tuple((o.alert.survey, o.alert.alert_id) for o in outcomes if o.alert is not None)
        return Answer(records, counts, alerts)

    def _records(
        self, message: Message, alert: Alert, annotation: Annotation, status: str, of: int
    ) -> list[OutputRecord]:
        key = (alert.object_id or str(alert.alert_id)).encode()
        headers = (
            *message.headers,
            ("survey", alert.survey.encode()),
            ("classifier", f"{annotation.classifier} {annotation.version}".encode()),
            ("sha256", annotation.sha256.encode()),
            *source_headers(message, of),
        )
        records = []
        if self._sink.annotated:
            value = self._annotator.annotate(alert.packet, [annotation])
            topic = self._sink.annotated.format(survey=alert.survey)
            records.append(OutputRecord(topic, key, value, headers, message))
        if self._sink.classifications:
            value = encode_classification(
                alert,
                annotation,
                topic=message.partition.topic,
                partition=message.partition.number,
                offset=message.offset,
                status=status,
            )
            topic = self._sink.classifications.format(survey=alert.survey)
            records.append(OutputRecord(topic, key, value, headers, message))
        return records
