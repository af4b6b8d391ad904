from __future__ import annotations

from space2vec.stream.reconcile import ANNOTATED, CLASSIFIED, REJECTED, Accounts, Answer, Place

HERE = [Place("ztf", 0, n) for n in range(10)]


def published(count: int) -> Accounts:
    accounts = Accounts()
    for n in range(count):
        accounts.publish(HERE[n], f"object-{n}", 100.0 + n)
    return accounts


def annotate(accounts: Accounts, n: int, seen_at: float = 200.0, status: str = "scored") -> None:
    accounts.answers[ANNOTATED].append(Answer(HERE[n], f"object-{n}", "", seen_at))
    accounts.answers[CLASSIFIED].append(Answer(HERE[n], f"object-{n}", status, seen_at))


def reject(accounts: Accounts, n: int, seen_at: float = 200.0) -> None:
    accounts.answers[REJECTED].append(Answer(HERE[n], "", "bad_record", seen_at))


def test_everything_answered_once() -> None:
    accounts = published(4)
    annotate(accounts, 0)
    annotate(accounts, 1, status="degraded")
    reject(accounts, 2)
    annotate(accounts, 3)
    assert accounts.answered == 4
    totals = accounts.totals(consumed=4, since=100.0)
    assert (totals.published, totals.scored, totals.degraded, totals.rejected, totals.annotated) == (
        4,
        2,
        1,
        1,
        3,
    )
    assert (totals.lost, totals.duplicated) == (0, 0)


def test_an_answer_that_is_missing_or_half_there_is_a_loss() -> None:
    accounts = published(3)
    annotate(accounts, 0)
    accounts.answers[ANNOTATED].append(Answer(HERE[1], "object-1", "", 200.0))
    assert accounts.lost() == [HERE[1], HERE[2]]
    assert accounts.answered == 1


def test_what_comes_twice_is_counted_each_time() -> None:
    accounts = published(3)
    for n in (0, 0, 0, 1):
        annotate(accounts, n)
    reject(accounts, 2)
    assert accounts.duplicated() == [HERE[0]] * 4  # two surplus, in each of two topics


def test_annotated_and_rejected_is_one_too_many() -> None:
    accounts = published(1)
    annotate(accounts, 0)
    reject(accounts, 0)
    assert accounts.duplicated() == [HERE[0]]


def test_an_answer_to_nothing_published_is_one_too_many() -> None:
    accounts = published(1)
    annotate(accounts, 0)
    reject(accounts, 5)
    assert accounts.duplicated() == [HERE[5]]


def test_an_answer_with_another_alert_in_it_is_found() -> None:
    accounts = published(1)
    accounts.answers[ANNOTATED].append(Answer(HERE[0], "object-7", "", 200.0))
    accounts.answers[CLASSIFIED].append(Answer(HERE[0], "object-0", "scored", 200.0))
    assert accounts.duplicated() == [HERE[0]]


def test_rate_and_latency_leave_start_up_out() -> None:
    accounts = published(5)  # at 100, 101, ... 104
    for n in range(5):
        annotate(accounts, n, seen_at=110.0 + n)
    totals = accounts.totals(consumed=5, since=102.0)
    assert totals.alerts_per_s == round(3 / (114.0 - 102.0), 1)
    assert (totals.latency_p50_s, totals.latency_p99_s) == (10.0, 10.0)
    empty = Accounts().totals(consumed=0, since=0.0)
    assert (empty.alerts_per_s, empty.latency_p50_s) == (0.0, 0.0)
