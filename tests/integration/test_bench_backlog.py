"""The benchmark's backlog: published once, queued for each session, drained whole by a bare socket."""

from __future__ import annotations

import dataclasses
import time

import pytest

from bench.backlog import FILTERS, Backlog, end_session, keep_session, publish_all
from bench.limits import drain
from bench.servers import broker
from bench.workloads import BY_NAME

COUNT = 3_000


def test_what_is_published_once_is_drained_by_every_session() -> None:
    with broker() as running:
        for qos in (1, 0):
            workload = dataclasses.replace(BY_NAME["single_qos1"], qos=qos)
            backlog = Backlog.of(workload, COUNT, time.time_ns() // 1000)
            for name in ("one", "two"):
                keep_session(running.url, name, FILTERS[workload.shape])
            publish_all(running.url, backlog.packets(), COUNT, qos)
            assert drain(running.url, "one", COUNT) > 0
            with pytest.raises(TimeoutError):  # of what it acknowledged, nothing comes again
                drain(running.url, "one", 1, patience_s=0.2)
            assert drain(running.url, "two", COUNT) > 0
            for name in ("one", "two"):
                end_session(running.url, name)
