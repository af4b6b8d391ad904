"""The only broker of a cluster goes and comes back: its partitions have new leader epochs then."""

from __future__ import annotations

import pytest

from space2vec.stream.audit import audit
from space2vec.stream.lag import LagReader, LagWatch
from trial import Outputs, Run, assert_all_answered, await_that


@pytest.mark.timeout(280)
def test_the_stream_and_its_lag_go_on_after_the_broker_came_back(
    apache_cluster, topics_at, ray_cluster, settings_for, make_alerts, monkeypatch
) -> None:
    monkeypatch.setattr("space2vec.stream.lag._CALL_S", 3.0)  # how long it takes to see that a broker is away
    cluster = apache_cluster(brokers=1)
    kafka = topics_at(cluster.bootstrap)
    sent = make_alerts(ztf=90, seed=51)
    topic = kafka.create_topic(partitions=4, max_message_bytes=4 << 20)
    kafka.produce(topic, [s.packet for s in sent[:30]])
    settings = settings_for(
        topic,
        source={"brokers": cluster.bootstrap},
        stream={"until_eof": False, "delivery": "exactly-once"},
    )
    watch = LagWatch(lambda: LagReader(settings), period_s=0.5)
    watch.start()
    run = Run(settings)
    try:
        for answered in (30, 60, 90):
            await_that(lambda n=answered: run.latest.counts.messages >= n if run.seen.is_set() else False)
            await_that(lambda: watch.latest is not None and sum(watch.latest.values()) == 0)
            if answered < 90:
                cluster.kill(1)
                await_that(lambda: watch.latest is None)
                cluster.start(1)
                kafka.produce(topic, [s.packet for s in sent[answered : answered + 30]])
    finally:
        run.stop.set()
        watch.stop()
    run.finish()
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))
