"""What can go wrong with a worker, and how its parent says that now it shall.

A worker maps a file of orders, which its parent writes; what happened it appends to a journal, one
system call a line, so that a line that was written survives a kill -9 right after it.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import signal
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Fault:
    name: str
    place: str = ""  # call of a port or of the system in the worker; empty: done from outside
    does: str = "kill"  # kill, stall, refuse
    calls: int = 1  # the fault comes at one of so many calls, drawn
    restarts: bool = False  # the place is reached by a worker that begins anew
    where: str = "any"  # broker, cluster: which brokers it needs for itself
    degrades: bool = False  # no usable snapshot is left of one partition
    transactions: bool = False  # only with delivery: exactly_once


KILLS = (
    Fault("before_send", "before a message", calls=6),
    Fault("sent_unacknowledged", "message sent, not acknowledged", calls=6),
    Fault("acknowledged_uncommitted", "messages acknowledged", calls=4),
    Fault("before_commit", "acknowledged, before the commit", calls=15),
    Fault("commit_sent", "after the commit", calls=15),
    Fault("before_snapshot", "before a snapshot", calls=2),
    Fault("snapshot_before_rename", "before a file is renamed", calls=2),
    Fault("renamed_unreferenced", "snapshot durable, not referenced", calls=2),
    Fault("before_prune", "before a snapshot is deleted", calls=2),
    Fault("before_snapshot_read", "before a snapshot is read", restarts=True),
    Fault("before_replay", "before the replay", restarts=True),
    Fault("mid_replay", "in the midst of a replay", restarts=True),
    Fault("kill_any_time"),
    Fault("offsets_in_transaction", "offsets are in the transaction", calls=4, transactions=True),
    Fault("commit_under_way", "the transaction is being committed", calls=4, transactions=True),
    Fault("transaction_committed", "the transaction is committed", calls=4, transactions=True),
)
OTHERS = (
    Fault("sigstop"),
    Fault("stall", "before the acknowledgement", "stall", calls=10),
    Fault("disk_fails", "before a file is synced", "refuse"),
    Fault("disk_full"),
    Fault("clock_jump"),
    Fault("snapshot_flipped"),
    Fault("snapshots_all_flipped", degrades=True),
    Fault("trimmed_past_replay", degrades=True),
    Fault("broker_restart", where="broker"),
    Fault("network_cut", where="broker"),
    Fault("leader_change", where="cluster"),
)
FAULTS = {fault.name: fault for fault in (*KILLS, *OTHERS)}
_NUMBER = {name: number for number, name in enumerate(FAULTS, 1)}
_NAME = {number: name for name, number in _NUMBER.items()}
_ORDER = struct.Struct("<qqq")
NOTICEABLE = 30.0  # s of a jump of the clock


class Order(NamedTuple):
    fault: str = ""
    call: int = 0  # the fault comes at this call
    amount: float = 0.0  # s; how long


NOTHING = Order()


class Orders:
    """One order at a time, in a file that parent and worker map."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            if not file.tell():
                file.write(bytes(_ORDER.size))
                file.flush()
            self._map = mmap.mmap(file.fileno(), _ORDER.size)

    def give(self, order: Order = NOTHING) -> None:
        number = _NUMBER.get(order.fault, 0)
        self._map[:] = _ORDER.pack(number, order.call, round(order.amount * 1000))

    def read(self) -> Order:
        number, call, amount = _ORDER.unpack(self._map[:])
        return Order(_NAME.get(number, ""), call, amount / 1000)


class Journal:
    """Lines of words, appended."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class WorkerFaults:
    """Called at each place of a worker; does what is ordered."""

    def __init__(self, orders: Orders, journal: Journal) -> None:
        self._orders = orders
        self._journal = journal
        self._jumped = False
        self._began = time.time() - time.monotonic()

    def __call__(self, place: str) -> None:
        order = self._orders.read()
        if not order.fault or FAULTS[order.fault].place != place:
            return
        if order.call > 1:
            self._orders.give(order._replace(call=order.call - 1))
            return
        does = FAULTS[order.fault].does
        self._journal("fired", order.fault)
        if does == "kill":
            if order.fault in {"sent_unacknowledged", "commit_under_way"}:
                # What was begun goes on on other threads.
                threading.Timer(random.uniform(0, 0.015), _die).start()
            else:
                _die()
        elif does == "stall":
            self._orders.give()
            time.sleep(order.amount)
        elif does == "refuse":  # until the order is taken back
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def look_at_the_clock(self) -> None:
        """Tells when the wall clock has moved against the one that never goes back."""
        wrong = time.time() - time.monotonic() - self._began
        if abs(wrong) > NOTICEABLE and not self._jumped:
            self._journal("jumped", round(wrong))
        self._jumped = abs(wrong) > NOTICEABLE


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tally(lines: list[list[str]]) -> Counter[str]:
    """How often each fault happened, by the journals' lines."""
    return Counter(words[1] for words in lines if words[0] == "fired")
