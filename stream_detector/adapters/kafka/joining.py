"""How a member joins its group: what kafka-python 3.0.12 gets wrong, or has no public call for.

It has two faults, both of a join that ends between two polls.

`BaseCoordinator.join_group_async` waits for its join only as long as the poll lasts. Where the
assignment arrives after that, then the next poll either

- finds the task done and joins again instead of using what it brought: a leader that does so
  starts the next rebalance, and a loop that spends its time elsewhere can go on so for minutes; or
- finds no reason to join any more (the reason was a change of metadata, noted meanwhile) and
  never looks at what came: the member owns nothing and holds up the group for good.

Here a join stays wanted, and its assignment is kept, until it was used. Nothing else may reach
into the client's private parts.
"""

from __future__ import annotations

from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # kafka-python has no types
    """Says how often this member has asked for its group's partitions to be shared out again."""

    asked = 0

    def metadata(self, topics: Any) -> Any:
        told = super().metadata(topics)
        if self.asked:
            told.user_data = str(self.asked).encode()
        return told


def share_out_again(consumer: Any, assignor: Assignor) -> None:
    """The next poll has the group share out its partitions; those that stay are not disturbed.

    A broker tells a follower that joins again what it has already, unless what the follower says of
    itself has changed.
    """
    assignor.asked += 1
    consumer._coordinator.request_rejoin()  # noqa: SLF001 - see above


def keep_finished_joins(consumer: Any) -> None:
    """Call once, before the consumer's first poll."""
    coordinator = consumer._coordinator  # noqa: SLF001 - see above
    join = coordinator._do_join_and_sync_async  # noqa: SLF001 - see above
    complete = coordinator._on_join_complete_async  # noqa: SLF001 - see above
    finished: list[tuple[Any, bytes]] = []  # the generation and its assignment; one at most

    async def join_or_take_finished() -> bytes:
        generation = coordinator._generation  # noqa: SLF001 - see above
        if finished and finished[0][0] == generation and coordinator.rebalance_in_progress():
            return finished[0][1]
        coordinator.request_rejoin()  # withdrawn by join_group_async when it uses the assignment
        assignment: bytes = await join()
        finished[:] = [(coordinator._generation, assignment)]  # noqa: SLF001 - see above
        return assignment

    async def use(*arguments: Any) -> None:
        finished.clear()
        await complete(*arguments)

    coordinator._do_join_and_sync_async = join_or_take_finished  # noqa: SLF001 - see above
    coordinator._on_join_complete_async = use  # noqa: SLF001 - see above
