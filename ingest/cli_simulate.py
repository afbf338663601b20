"""The options of `ingest simulate`; what it does is in `commands/simulating.py`.

Imported with `ingest.cli`, so it imports no driver: see there.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest.cli_load import Deadline
from ingest.commands.invocation import Json, finish
from ingest.commands.report_option import Report
from ingest.load.simulate.installation import FORMATS, MOST_GATEWAYS, MOST_SEED, Format

_MOST_DURATION_S = 100 * 366 * 86_400


def _formats(text: str) -> tuple[Format, ...]:
    """Read --formats: names with commas between them, each once."""
    names = [name.strip() for name in text.split(",")]
    chosen = tuple(kind for kind in FORMATS if kind in names)
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(FORMATS)}", param_hint="--formats")
    return chosen


def simulate(
    context: typer.Context,
    *,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="The same seed, the same messages.")] = 1,
    gateways: Annotated[int, typer.Option(min=1, max=MOST_GATEWAYS, help="How many.")] = 10,
    duration: Annotated[
        float, typer.Option(min=0.001, max=_MOST_DURATION_S, metavar="SECONDS", help="Time simulated.")
    ] = 60.0,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Recording to write (.jsonl.gz), for `ingest replay`.")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Publish there: mqtt://host:1883. Login and TLS files are those of table [broker].",
        ),
    ] = None,
    catalog: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write its tenants, greenhouses and sensors for `catalog import`."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="First moment simulated, ISO 8601. Without it 2026-01-01 for a file, now for a broker."
        ),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=86_400,
            metavar="SECONDS",
            help="Between two readings of a gateway; without it 3, 5 or 10.",
        ),
    ] = None,
    latitude: Annotated[float, typer.Option(min=-90, max=90, help="Degrees north.")] = 36.8,
    faults: Annotated[
        Literal["none", "few", "many"], typer.Option(help="Of probes, clocks and connections.")
    ] = "few",
    formats: Annotated[str, typer.Option(metavar="NAME,…", help="What gateways speak, in turns.")] = ",".join(
        FORMATS
    ),
    qos: Annotated[Literal["0", "1", "mixed"], typer.Option(help="QoS they publish with.")] = "1",
    speed: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="With --broker: faster than time.")
    ] = 1.0,
    deadline: Deadline = 60.0,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Simulate greenhouses and their gateways, into a file, to a broker, or both."""
    from ingest.commands import simulating  # noqa: PLC0415 (imported when called: quick --help)
    from ingest.load.simulate.gateway import Plan  # noqa: PLC0415 (as above)

    if output is None and broker is None and catalog is None:
        raise typer.BadParameter("give --output FILE, --broker URL or both (or --catalog FILE alone)")
    if broker is None and speed != 1:
        raise typer.BadParameter("--speed is for --broker: a file is written as fast as it goes")
    plan = Plan(
        seed=seed,
        gateways=gateways,
        start_us=0,
        duration_us=round(duration * 1_000_000),
        interval_s=interval,
        latitude_deg=latitude,
        faults=faults,
        formats=_formats(formats),
        qos=qos,
    )
    targets = simulating.Targets(output, broker, catalog, speed, deadline, report)
    finish(
        context, lambda invocation: simulating.run(invocation, plan, targets, start=start, as_json=as_json)
    )
