"""The option `--report`: what a replay or a simulation did, as an HTML page beside its report in words.

Takes the JSON report and what was measured, and writes the file. That it can be written is looked at before
hours of work, not after.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ingest.errors import ConfigurationError
from ingest.load.measured import Measured, Missing, Number
from ingest.load.report import render
from ingest.load.whole_file import WholeFile
from ingest.release import release

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingest.load.measured import Days, Latency, Rate
    from ingest.load.stored_rows import StoredRows

TO_PUBACK: Final = "From PUBLISH to PUBACK"
TO_ROW: Final = "From PUBLISH to the row in the table"


class ReportFile:
    """The file that the page goes to."""

    def __init__(self, path: Path) -> None:
        """Look whether a file can be made at *path*; raise ConfigurationError where not."""
        self._path = path
        if path.is_dir():
            raise ConfigurationError([f"--report: {path} is a folder"])
        if path.exists() and not path.is_file():
            return  # a device, or a pipe: written straight into
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise ConfigurationError([f"--report: {path} cannot be written: {error.strerror}"]) from error

    def write(self, measured: Measured) -> None:
        """Write the page, in place of one that is there. Raises CheckFailed or ConfigurationError."""
        with WholeFile(self._path) as file:
            with file.written():
                file.stream.write(render(measured).encode())
            file.close()


def of_replay(
    said: Mapping[str, Any],
    rates: tuple[Rate, ...],
    latencies: tuple[Latency, ...],
    stored: StoredRows | None,
) -> Measured:
    """Give the page's contents; *said* is the JSON report."""
    verified = said["verify"]
    listed = () if verified is None else tuple(_missing(each) for each in verified["first_missing"])
    return Measured(
        title=f"Replay of {', '.join(Path(each).name for each in said['files'])}",
        verdict=_verdict_of_replay(said),
        ok=said["ok"],
        facts=(
            ("to", said["broker"]),
            ("messages recorded", f"{said['messages']:,}"),
            ("gateways", f"{said['gateways']:,}"),
            *_times(said),
        ),
        rates=rates,
        latencies=latencies,
        readings=() if stored is None else stored.by_type,
        readings_are="rows",
        days=() if stored is None else stored.days,
        account=tuple(_account_of_replay(said)),
        missing=listed,
        missing_in_all=0 if verified is None else verified["missing"],
        made=_made(),
    )


def _verdict_of_replay(said: Mapping[str, Any]) -> str:
    if said["failure"]:
        return f"Given up: {said['failure']}."
    if not said["finished"]:
        return "Not finished: --resume goes on with it."
    faults = {"refused messages": said["refused"], "damaged places": len(said["damage"])}
    if said["verify"] is not None:
        faults["missing readings"] = said["verify"]["missing"]
    amiss = [f"{count:,} {what}" for what, count in faults.items() if count]
    if amiss:
        return f"Not all is well: {', '.join(amiss)}."
    landed = "the broker has them" if said["verify"] is None else "all are accounted for in the tables"
    return f"{said['acknowledged'] + said['sent_at_qos_0']:,} messages published, and {landed}."


def _account_of_replay(said: Mapping[str, Any]) -> Iterator[Number]:
    yield Number("messages published", said["published"])
    yield Number("acknowledged by the broker", said["acknowledged"])
    yield Number("sent at QoS 0", said["sent_at_qos_0"])
    yield Number("refused by the broker", said["refused"], amiss=True)
    yield Number("left out: recorded as retained", said["retained_left_out"])
    yield Number("done by an earlier run", said["done_before"])
    yield Number("acknowledged, and nobody was subscribed", said["unheard"])
    yield Number("damaged places in the recordings", len(said["damage"]), amiss=True)
    verified = said["verify"]
    if verified is not None:
        yield Number("readings in the messages", verified["readings"])
        yield Number("landed once", verified["landed_once"])
        yield Number("duplicates, absorbed", verified["duplicate"])
        yield Number("in dead letters", verified["dead"])
        yield Number("rows more than published", verified["surplus"])
        yield Number("missing", verified["missing"], amiss=True)


def _missing(each: Mapping[str, Any]) -> Missing:
    place = f"{Path(each['file']).name}, {each['block']}, {each['message']}"
    return Missing(place, each["topic"], each["field"], each["why"])


def of_simulation(
    said: Mapping[str, Any], rates: tuple[Rate, ...], latencies: tuple[Latency, ...], days: Days | None
) -> Measured:
    """Give the page's contents; *said* is the JSON report."""
    published = "acknowledged" in said
    ok = None if not published else not (said["refused"] or said["failure"])
    verdict = f"{said['messages']:,} messages simulated."
    if published:
        verdict = f"{said['messages']:,} messages published, {said['acknowledged']:,} acknowledged."
        if said["failure"]:
            verdict = f"Given up: {said['failure']}."
    facts: list[tuple[str, object]] = [("seed", said["seed"]), ("gateways", f"{said['gateways']:,}")]
    facts += [(name, said[key]) for name, key in (("from", "start"), ("recording", "output")) if key in said]
    account = [Number("messages simulated", said["messages"])]
    if published:
        account += [
            Number("acknowledged by the broker", said["acknowledged"]),
            Number("refused by the broker", said["refused"], amiss=True),
            Number("acknowledged, and nobody was subscribed", said["unheard"]),
            Number("connections made again", said["reconnects"]),
        ]
    return Measured(
        title=f"Simulation of {said['gateways']:,} gateways",
        verdict=verdict,
        ok=ok,
        facts=(*facts, *_times(said)),
        rates=rates,
        latencies=latencies,
        readings=() if days is None else days.readings,
        days=() if days is None else days.days,
        account=tuple(account),
        made=_made(),
    )


def _times(said: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield "took", f"{said['seconds']:,.1f} s"
    if said.get("late_s"):
        yield "behind its own times", f"{said['late_s']:,.1f} s at most"


def _made() -> str:
    return f"greenhouse-ingest {release()}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
