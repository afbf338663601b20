"""The options of `ingest catalog`; what its commands do is in `commands/catalog.py`.

Imported with `ingest.cli`, so it imports no driver: see there.
"""

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import typer

from ingest.commands.invocation import Json, finish

catalog_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
catalog_add_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
catalog_app.add_typer(catalog_add_app, name="add", help="Register one entry; the same again changes nothing.")

CatalogKind = Literal["tenants", "greenhouses", "sensors", "sensor-types", "units", "aliases"]
AliasKind = Literal["sensor-type", "unit"]
DataType = Literal["DECIMAL", "INTEGER", "BOOLEAN"]


@catalog_app.command("list")
def catalog_list(
    context: typer.Context,
    kind: Annotated[CatalogKind, typer.Argument(help="What to list.")],
    *,
    as_json: Json = False,
) -> None:
    """List every entry of one kind."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: catalog.list_kind(invocation, kind=kind, as_json=as_json))


@catalog_app.command("import")
def catalog_import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A .json or .csv file.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be written.")] = False,
    as_json: Json = False,
) -> None:
    """Register every entry of a file in one transaction, or none of them."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.import_file(invocation, file=file, dry_run=dry_run, as_json=as_json),
    )


@catalog_add_app.command("unit")
def catalog_add_unit(
    context: typer.Context,
    symbol: Annotated[str, typer.Argument(help="As shown, and as gateways write it: mS/cm.")],
    name: Annotated[str, typer.Argument(help="In words: millisiemens per centimetre.")],
    *,
    description: Annotated[str | None, typer.Option(help="What it measures.")] = None,
    as_json: Json = False,
) -> None:
    """Register a unit of measurement."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.add_unit(
            invocation, symbol=symbol, name=name, description=description, as_json=as_json
        ),
    )


@catalog_add_app.command("sensor-type")
def catalog_add_sensor_type(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="In English, A-Z, digits and _: CONDUCTIVITY.")],
    *,
    unit: Annotated[str, typer.Option(help="Of a reading that names none; that of the limits.")],
    minimum: Annotated[float | None, typer.Option("--min", help="Least value that is believed.")] = None,
    maximum: Annotated[float | None, typer.Option("--max", help="Greatest value that is believed.")] = None,
    data_type: Annotated[DataType | None, typer.Option(show_default="DECIMAL", help="Of its values.")] = None,
    as_json: Json = False,
) -> None:
    """Register a sensor type."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.add_sensor_type(
            invocation,
            name=name,
            unit=unit,
            minimum=minimum,
            maximum=maximum,
            data_type=data_type,
            as_json=as_json,
        ),
    )


@catalog_add_app.command("tenant")
def catalog_add_tenant(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option(help="Its name.")],
    prefix: Annotated[str, typer.Option(help="Second level of its topics: GREENHOUSE/<prefix>.")],
    email: Annotated[str | None, typer.Option(help="Whom to ask.")] = None,
    company: Annotated[str | None, typer.Option(help="Name of the company.")] = None,
    as_json: Json = False,
) -> None:
    """Register a tenant."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.add_tenant(
            invocation, name=name, prefix=prefix, email=email, company=company, as_json=as_json
        ),
    )


@catalog_add_app.command("greenhouse")
def catalog_add_greenhouse(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option(help="The tenant's prefix.")],
    code: Annotated[str, typer.Option(help="Its code, as in topics and labels: 01.")],
    name: Annotated[str | None, typer.Option(help="Its name; without one, the code.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA name.", show_default="Europe/Madrid")] = None,
    as_json: Json = False,
) -> None:
    """Register a greenhouse of a tenant."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.add_greenhouse(
            invocation, tenant=tenant, code=code, name=name, timezone=timezone, as_json=as_json
        ),
    )


@catalog_add_app.command("sensor")
def catalog_add_sensor(
    context: typer.Context,
    *,
    tenant: Annotated[str, typer.Option(help="The tenant's prefix.")],
    greenhouse: Annotated[str, typer.Option(help="The greenhouse's code.")],
    sensor_type: Annotated[str, typer.Option("--type", help="Sensor type or alias: TEMPERATURE.")],
    unit: Annotated[str | None, typer.Option(help="Without one, the type's.")] = None,
    code: Annotated[str | None, typer.Option(help="Its code.")] = None,
    device_id: Annotated[str | None, typer.Option(help="The code its device sends.")] = None,
    label: Annotated[str | None, typer.Option(help="Its label in flat maps.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name.")] = None,
    sensor_id: Annotated[
        UUID | None, typer.Option("--id", help="Without one, the id its readings already have.")
    ] = None,
    expected_interval_s: Annotated[
        int | None, typer.Option("--interval", min=1, help="Seconds between its readings.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Register a sensor under the id its readings already have."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.add_sensor(
            invocation,
            tenant=tenant,
            greenhouse=greenhouse,
            sensor_type=sensor_type,
            unit=unit,
            code=code,
            device_id=device_id,
            label=label,
            name=name,
            sensor_id=sensor_id,
            expected_interval_s=expected_interval_s,
            as_json=as_json,
        ),
    )


@catalog_add_app.command("alias")
def catalog_add_alias(
    context: typer.Context,
    kind: Annotated[AliasKind, typer.Argument(help="What it is another name of.")],
    alias: Annotated[str, typer.Argument(help="As gateways write it.")],
    name: Annotated[str, typer.Argument(help="The sensor type's name or the unit's symbol.")],
    *,
    as_json: Json = False,
) -> None:
    """Register another name of a sensor type or unit."""
    from ingest.commands import catalog  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: catalog.add_alias(invocation, kind=kind, alias=alias, name=name, as_json=as_json),
    )
