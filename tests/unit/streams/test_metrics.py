"""The metrics are named and labelled as is said, and of shards that went nothing is told."""

from __future__ import annotations

import re

import pytest

from streams import metrics
from streams.metrics import DECLARED, REGISTRY, Declared, Lag

UNITS = ("_total", "_seconds", "_ratio", "_info", "_offsets", "_minutes", "_sessions")
COUNTS = ("_requests", "_messages")


@pytest.mark.parametrize("one", DECLARED.values(), ids=lambda one: one.name)
def test_names_have_a_unit_and_labels_are_known(one: Declared) -> None:
    assert re.fullmatch(r"sessiontape_[a-z]+(_[a-z]+)*", one.name)
    assert one.name.endswith((*UNITS, *COUNTS))
    assert one.name.endswith("_total") == (one.kind == "counter")
    assert one.labels[0] == "namespace"
    known = {"namespace", "worker", "shard", "topic", "status", "kind", "version"}
    assert set(one.labels) <= known
    assert one.text.endswith(".")


def test_what_is_declared_is_what_is_served() -> None:
    served = {family.name: family for family in REGISTRY.collect()}
    for one in DECLARED.values():
        family = served[one.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (one.kind, one.text)
    ours = {name for name in served if name.startswith("sessiontape_")}
    assert len(ours) == len(DECLARED)
    assert set(metrics.PROCESS) <= {s.name for f in served.values() for s in f.samples}


def test_of_shards_that_went_no_lag_is_told() -> None:
    def told(shard: int) -> float | None:
        labels = {"namespace": "lag", "worker": "sink", "shard": str(shard), "topic": "lag.session"}
        return REGISTRY.get_sample_value("sessiontape_lag_offsets", labels)

    lag = Lag("lag", "sink", "lag.session")
    lag.tell({0: 7, 1: 0, 2: -1})
    assert [told(shard) for shard in range(3)] == [7.0, 0.0, None]
    lag.tell({0: -1, 2: 3})
    assert [told(shard) for shard in range(3)] == [7.0, None, 3.0]  # 0: nobody knows better
    lag.tell({})
    assert [told(shard) for shard in range(3)] == [None, None, None]
