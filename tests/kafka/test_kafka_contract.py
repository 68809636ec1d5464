"""Sources and sinks on a real broker keep the contract that the broker in memory keeps."""

from __future__ import annotations

import pytest

from tests.contract.broker_contract import BrokerContract
from tests.contract.transaction_contract import TransactionContract

pytestmark = pytest.mark.kafka


class TestKafka(BrokerContract):
    pass


class TestKafkaTransactions(TransactionContract):
    pass
