"""The options of `ingest import` and `ingest export`; what they do is in `commands/`.

Imported with `ingest.cli`, so it imports no driver: see there.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ingest.commands.invocation import Json, Rehearsed, finish

history_app = typer.Typer(rich_markup_mode=None)
"""Its commands stand beside the others: `ingest import`."""

File = typer.Argument(exists=True, dir_okay=False, readable=True, show_default=False)


@history_app.command("import")
def import_(
    context: typer.Context,
    files: Annotated[list[Path], File],
    *,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="FIELD=NAME",
            help="Where a field is: time, value, sensor, sensor_type, unit, greenhouse, tenant, metadata. "
            "May be given several times.",
        ),
    ] = None,
    greenhouse: Annotated[str | None, typer.Option(help="Of records that name none: UUID or code.")] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Of records that name none: topic prefix, name or UUID.")
    ] = None,
    sensor: Annotated[
        str | None, typer.Option(help="Of records that name none: UUID or device code.")
    ] = None,
    sensor_type: Annotated[str | None, typer.Option(help="Of records that name none: name or alias.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of records that name none: symbol or alias.")] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of times without a zone, like Europe/Madrid; else they are refused.")
    ] = None,
    accepted: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="SINCE..UNTIL",
            help="Times to be believed, each ISO 8601 or like 30d; without it, 1971 until now.",
        ),
    ] = None,
    file_format: Annotated[
        Literal["csv", "jsonl"] | None, typer.Option("--format", help="Without it, by each file's name.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Of CSV, or tab; without it, what the header has.")
    ] = None,
    dry_run: Rehearsed = False,
    reject_names: Annotated[
        bool,
        typer.Option(
            "--reject-names", help="Reject records whose names the catalog refuses; write the rest."
        ),
    ] = False,
    rejected: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Where rejected records go, with their reasons, to be imported again."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store readings out of CSV or JSON Lines files. May be stopped and run again.

    Exit 1 when something is rejected, 2 when nothing is written: a column, zone or name is wrong.
    """
    from ingest.commands import importing  # noqa: PLC0415 (imported when called: quick --help)

    options = importing.ImportOptions(
        columns=column or (),
        constants={
            "greenhouse": greenhouse,
            "tenant": tenant,
            "sensor": sensor,
            "sensor_type": sensor_type,
            "unit": unit,
        },
        timezone=timezone,
        accepted=accepted,
        file_format=file_format,
        delimiter=delimiter,
    )
    finish(
        context,
        lambda invocation: importing.run(
            invocation,
            options,
            files=files,
            dry_run=dry_run,
            reject_names=reject_names,
            rejected=rejected,
            as_json=as_json,
        ),
    )


@history_app.command("export")
def export(
    context: typer.Context,
    *,
    since: Annotated[str, typer.Option(help="From: ISO 8601, or 30m, 12h, 7d ago.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(dir_okay=False, help="The file; .gz compresses it; - is stdout.", show_default=False),
    ],
    until: Annotated[str | None, typer.Option(help="Before: as --since; without it, now.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this one: topic prefix, name or UUID.")] = None,
    greenhouse: Annotated[str | None, typer.Option(help="Only of this one: UUID or code.")] = None,
    sensor: Annotated[
        str | None, typer.Option(help="Only of this one: UUID, sensor code, device id or label.")
    ] = None,
    sensor_type: Annotated[
        str | None, typer.Option("--type", help="Only of this type: name or alias.")
    ] = None,
    file_format: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        typer.Option("--format", help="Without it, by the file's name. Parquet needs the extra `parquet`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a range of readings to a file, with names, in the order of time."""
    from ingest.commands import exporting  # noqa: PLC0415 (imported when called: quick --help)

    options = exporting.ExportOptions(since, until, tenant, greenhouse, sensor, sensor_type)
    finish(
        context,
        lambda invocation: exporting.run(
            invocation, options, output=output, file_format=file_format, as_json=as_json
        ),
    )
