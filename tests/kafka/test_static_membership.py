"""`kafka.group_instance_id`: who restarts gets its own back, the other workers notice nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream_detector.ports import SourceError
from stream_detector.records import Partition
from tests.contract.broker_contract import numbers
from tests.contract.reader import Reader, poll_until
from tests.kafka.service_case import samples
from tests.service import until

if TYPE_CHECKING:
    from stream_detector.adapters.kafka import KafkaSource
    from tests.kafka.conftest import RealKafka
    from tests.kafka.service_case import Place

pytestmark = pytest.mark.kafka


def member(broker: RealKafka, topic: str, group: str, name: str) -> Reader:
    return Reader(broker.source([topic], group, group_instance_id=name))


def generation(reader: Reader) -> int:
    source: KafkaSource = reader.source  # type: ignore[assignment]  # of this broker
    found: int = source._consumer.group_metadata().generation_id
    return found


@pytest.mark.parametrize("leader", [True, False])
def test_a_restarted_member_gets_its_partitions_back_without_a_rebalance(
    broker: RealKafka,
    leader: bool,  # noqa: FBT001  # pytest hands in by name
) -> None:
    topic, group = broker.topic(4), broker.group()
    names = ("a", "b") if leader else ("b", "a")  # who comes first leads the group
    readers = {name: member(broker, topic, group, name) for name in names}
    a, b = readers["a"], readers["b"]
    poll_until(lambda: len(a.owned) == len(b.owned) == 2, *readers.values())
    own, before, polls = set(a.owned), generation(b), len(b.polls)
    a.source.close()
    again = member(broker, topic, group, "a")
    poll_until(lambda: len(again.owned) == 2, again, b)
    assert again.owned == own
    for part in [*own, *b.owned]:
        broker.put(part, numbers(5))
    poll_until(lambda: len(again.records) == len(b.records) == 10, again, b)
    assert not any(polled.assigned or polled.revoked for polled in b.polls[polls:])
    assert generation(b) == generation(again) == before


@pytest.mark.parametrize("others", [0, 1])
def test_partitions_that_are_added_to_a_group_whose_leader_restarted_are_read(
    broker: RealKafka, others: int
) -> None:
    """It comes back as a follower; without its looks they would be nobody's for good."""
    topic, group = broker.topic(2), broker.group()
    leader = member(broker, topic, group, "a")
    poll_until(lambda: len(leader.owned) == 2, leader)
    rest = [member(broker, topic, group, "b") for _ in range(others)]
    share = 2 // (1 + others)
    poll_until(lambda: all(len(one.owned) == share for one in (leader, *rest)), leader, *rest)
    before = generation(leader)
    leader.source.close()
    again = member(broker, topic, group, "a")
    readers = again, *rest
    poll_until(lambda: again.owned == leader.owned, *readers)
    assert generation(again) == before
    polls = [len(one.polls) for one in readers]
    broker.add_partitions(topic, 4)
    poll_until(lambda: sum(len(one.owned) for one in readers) == 4, *readers, patience=60)
    everyone = [Partition(topic, number) for number in range(4)]
    assert set().union(*(one.owned for one in readers)) == set(everyone)
    for part in everyone:
        broker.put(part, numbers(5))
    poll_until(lambda: sum(len(one.records) for one in readers) == 20, *readers)
    poll_until(lambda: not any(one.source.unassigned() for one in readers), *readers)
    if not others:  # nobody to share with: what it had it keeps
        assert not any(polled.revoked for polled in again.polls[polls[0] :])


class Unheard:
    """A client that has not heard of any topic's partitions yet."""

    def topics(self) -> set[str]:
        return set()

    def partitions_for_topic(self, _topic: str) -> None: ...


def test_partitions_that_a_leader_left_out_before_it_ended_are_read(broker: RealKafka) -> None:
    """Killed before it hears of them, it would have had them shared out again."""
    topic, group = broker.topic(2), broker.group()
    leader = member(broker, topic, group, "a")
    assignor: Any = leader.source._assignor  # type: ignore[attr-defined]  # of this broker
    assign = assignor.assign
    assignor.assign = lambda _cluster, members: assign(Unheard(), members)
    poll_until(lambda: generation(leader) > 0, leader)
    assert not leader.owned
    leader.source.close()
    again = member(broker, topic, group, "a")
    poll_until(lambda: len(again.owned) == 2, again, patience=60)
    broker.put(Partition(topic, 1), numbers(5))
    poll_until(lambda: len(again.records) == 5, again)


def test_of_two_with_one_name_the_older_one_stops_and_says_so(broker: RealKafka) -> None:
    topic, group = broker.topic(1), broker.group()
    one = member(broker, topic, group, "a")
    poll_until(lambda: len(one.owned) == 1, one)
    two = member(broker, topic, group, "a")
    poll_until(lambda: len(two.owned) == 1, two)
    broker.put(Partition(topic, 0), numbers(5))
    with pytest.raises(SourceError, match=r"kafka\.group_instance_id; give each its own"):
        poll_until(lambda: False, one)
    poll_until(lambda: len(two.records) == 5, two)


def test_a_killed_service_restores_its_own_partitions_and_the_other_one_none(
    place: Place,
) -> None:
    place.produce(samples(0, 300))

    def named(name: str) -> dict[str, object]:
        return {"kafka": place.kafka(group_instance_id=name, session_timeout="30s")}

    with place.service(**named("one")) as one, place.service(**named("two")) as two:
        until(
            lambda: all(s.value("partitions_assigned") == 2 for s in (one, two)),
            "both to have a share",
        )
        until(lambda: sum(place.committed().values()) == place.count, "all to be read")
        restored = one.value("restores_total")
        two.process.kill()
        with place.service(**named("two")) as again:
            until(lambda: again.value("restores_total", outcome="exact") == 2, "its state")
            place.produce(samples(300, 600))
            until(lambda: sum(place.committed().values()) == place.count, "the rest to be read")
            assert one.value("restores_total") == restored
            assert again.value("restores_total") == 2
            assert again.terminate() == one.terminate() == 0
    assert set(place.event_ids()) == set(place.replay("all", *place.records().values()))
