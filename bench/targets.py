"""What the figures are held against: ratios within one run, and what two cores have to give. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

MAIN: Final = "single_qos1"


class Judged(NamedTuple):
    """One target and what was measured; None where it was not."""

    says: str
    wanted: str
    measured: str
    met: bool | None


def judge(kept: dict[str, Any]) -> list[Judged]:
    """Give every target with its figure."""
    workloads, latency = kept.get("workloads", {}), kept.get("latency_ms", {})
    main, at_100 = workloads.get(MAIN), latency.get("100")
    judged = [
        _at_least("single readings, QoS 1: rows a second, of mq-bridge's", 2.0, main, "ratio_to_mq_bridge"),
        _at_least("single readings, QoS 1: of the lower limit", 0.8, main, "ratio_to_limit"),
        _at_most("single readings, QoS 1: µs of CPU a message", 6.0, main, "cpu_us_per_message"),
        _at_most("single readings, QoS 1: MiB of memory", 150.0, main, "rss_mb"),
        _at_least("flat maps: of raw COPY", 0.6, workloads.get("flat_maps"), "ratio_to_raw_copy"),
        _at_least("batches: of raw COPY", 0.6, workloads.get("batches"), "ratio_to_raw_copy"),
    ]
    doubled = workloads.get("single_duplicates")
    share = None
    if main and doubled and main.get("run") == doubled.get("run"):  # the runs before had none
        share = {"share": doubled["ratio_to_limit"] / main["ratio_to_limit"]}
    judged.append(_at_least("5 % duplicates: of the rate without, each to its limit", 0.75, share, "share"))
    judged.append(_at_most("100 messages a second: ms to COMMIT, p50", 10.0, at_100, "p50_ms"))
    judged.append(_at_most("100 messages a second: ms to COMMIT, p99", 50.0, at_100, "p99_ms"))
    return judged


def _at_least(says: str, wanted: float, figures: dict[str, Any] | None, name: str) -> Judged:
    if figures is None or name not in figures:
        return Judged(says, f"{wanted:g} at least", "", None)
    return Judged(says, f"{wanted:g} at least", f"{figures[name]:.2f}", figures[name] >= wanted)


def _at_most(says: str, wanted: float, figures: dict[str, Any] | None, name: str) -> Judged:
    if figures is None or figures.get(name) is None:
        return Judged(says, f"{wanted:g} at most", "", None)
    return Judged(says, f"{wanted:g} at most", f"{figures[name]:.1f}", figures[name] <= wanted)
