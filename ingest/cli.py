"""The command line: its commands, their options and help; what a command does is in `commands/`.

Catalog, dead letters, history, load and simulation have theirs in a `cli_….py` each. A command's module is
imported when it is called, so that `ingest --help` answers at once and `ingest decode` needs no broker
library. Exit codes are kept by `commands/invocation.py`.
"""

import gc
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from ingest.cli_catalog import catalog_app
from ingest.cli_dead_letters import dead_letters_app
from ingest.cli_history import history_app
from ingest.cli_load import load_app
from ingest.cli_simulate import simulate
from ingest.commands.invocation import Invocation, Json, finish
from ingest.model import MOST_SESSIONS

app = typer.Typer(
    name="ingest",
    help="Moves greenhouse sensor messages from MQTT into TimescaleDB.",
    epilog="Exit codes: 0 good, 1 a check failed, 2 usage or configuration, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
schema_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(catalog_app, name="catalog", help="Tenants, greenhouses, sensors, types, units and aliases.")
app.add_typer(dead_letters_app, name="dead-letters", help="Messages that lost fields, and why.")
app.add_typer(schema_app, name="schema", help="The tables of both databases.")
app.add_typer(load_app)
load_app.command()(simulate)
app.add_typer(history_app)

DatabaseName = Literal["metadata", "timeseries"]
OnlyDatabase = Annotated[
    DatabaseName | None,
    typer.Option("--database", help="Only this one; without it metadata, then timeseries."),
]
Enable = Annotated[bool, typer.Option("--enable", help="Have disabled jobs scheduled again too.")]


_YOUNG_OBJECTS: Final = 100_000
"""Made between two looks for garbage: a command's imports make 100 000, nearly all of them to stay. With
CPython's 700 the looking, and a last look at the end, took 0.15 of 0.5 s of `ingest check`."""


def main() -> None:
    """Run the command line; the entry point of `ingest`."""
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    try:
        app(prog_name="ingest")
    finally:
        gc.freeze()  # the process ends: nobody needs what a look through all of it would free


def _print_version(wanted: bool) -> None:  # noqa: FBT001 (typer calls it with the option's value)
    if wanted:
        from ingest.release import release  # noqa: PLC0415 (imported when called: quick --help)

        typer.echo(f"greenhouse-ingest {release()}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file; else INGEST_CONFIG, config/ingest.toml, /etc/greenhouse-ingest/ingest.toml."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log at level debug; tracebacks of errors.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    _ = show_version
    context.obj = Invocation(config=config, debug=debug)


@app.command()
def run(
    context: typer.Context,
    *,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_SESSIONS,
            help="Worker processes that share the load; else workers.count, else one.",
        ),
    ] = None,
    member: Annotated[str | None, typer.Option(hidden=True)] = None,
    of: Annotated[int, typer.Option(hidden=True)] = 1,
    line: Annotated[int, typer.Option(hidden=True)] = -1,
    end: Annotated[bool, typer.Option("--end", hidden=True)] = False,
) -> None:
    """Run the worker, or several, until SIGTERM or SIGINT."""
    from ingest.commands import working  # noqa: PLC0415 (imported when called: quick --help)

    if member is not None:  # how a supervisor starts its workers
        from ingest.workers.order import Order  # noqa: PLC0415 (as above)

        order = Order(member, of, end)
        finish(context, lambda invocation: working.run_member(invocation, order, line))
    finish(context, lambda invocation: working.run(invocation, workers=workers))


@app.command()
def check(context: typer.Context, *, as_json: Json = False) -> None:
    """Check broker, granted QoS, databases and schema versions."""
    from ingest.commands import working  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: working.check(invocation, as_json=as_json))


@app.command()
def demo(
    context: typer.Context,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave broker, database and worker running until Ctrl-C.")
    ] = False,
    gateways: Annotated[int, typer.Option(min=1, max=1000, help="Simulated gateways.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of what they publish.")] = 1,
    messages: Annotated[int, typer.Option(min=1, help="Messages in all.")] = 6_000,
    as_json: Json = False,
) -> None:
    """Show it all on this machine: embedded servers, gateways, worker."""
    from ingest.commands import working  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: working.demo(
            invocation, keep=keep, gateways=gateways, seed=seed, messages=messages, as_json=as_json
        ),
    )


@app.command()
def decode(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="File with the payload; - is stdin.")] = "-",
    *,
    topic: Annotated[str, typer.Option(help="Topic it was published to.")],
    received_at: Annotated[
        str | None, typer.Option(help="When: ISO 8601 or like 7d; times are judged by it. Now without it.")
    ] = None,
    no_catalog: Annotated[
        bool, typer.Option("--no-catalog", help="Do not read the catalog: readings by name, not rows by id.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the rows and rejections one message would give. Nothing is written.

    Exit 1 when something is rejected, or the catalog cannot be asked.
    """
    from ingest.commands import decoding  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: decoding.decode_message(
            invocation,
            topic=topic,
            file=file,
            received_at=received_at,
            use_catalog=not no_catalog,
            as_json=as_json,
        ),
    )


@app.command()
def config(context: typer.Context, *, as_json: Json = False) -> None:
    """Show each option's value and its source; secrets masked."""
    from ingest.commands import configuration  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: configuration.show(invocation, as_json=as_json))


@app.command()
def normalize(
    context: typer.Context,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count exactly what would be done; nothing is written.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="At most this many rows a second; without it, as fast as it goes."),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="At the end compute the changed hours of the aggregates at once."),
    ] = False,
    drop_legacy_columns: Annotated[
        bool,
        typer.Option(
            "--drop-legacy-columns",
            help="Instead, with --yes: drop the columns with names, for good; refused while one is needed.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Drop them without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Give readings written with names their ids; may be stopped and run again."""
    from ingest.commands import normalizing  # noqa: PLC0415 (imported when called: quick --help)

    if refresh or rate is not None if drop_legacy_columns else yes:
        raise typer.BadParameter("--drop-legacy-columns takes --dry-run and --yes, which only it takes")
    if drop_legacy_columns:
        finish(context, partial(normalizing.drop_columns, dry_run=dry_run, yes=yes, as_json=as_json))
    finish(
        context,
        lambda invocation: normalizing.run(
            invocation, dry_run=dry_run, rate_rows_s=rate, refresh=refresh, as_json=as_json
        ),
    )


@app.command()
def reconcile(
    context: typer.Context,
    *,
    since: Annotated[str, typer.Option(help="From: ISO 8601, or 30m, 12h, 7d ago.")] = "24h",
    until: Annotated[str | None, typer.Option(help="Up to, as --since; without it, now.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this one: topic prefix, or id.")] = None,
    gateway: Annotated[str | None, typer.Option(help="Only of this one, as the report names it.")] = None,
    max_gaps: Annotated[
        int | None, typer.Option("--max-gaps", min=0, help="More gaps than this are a fault.")
    ] = None,
    complete: Annotated[
        float | None, typer.Option(min=0, max=100, help="Percent that each sensor has to have delivered.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare both ledgers, by gateway, with the tables; find gaps. Exit 1 when something does not add up."""
    from ingest.commands import reconciling  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: reconciling.run(
            invocation,
            since=since,
            until=until,
            tenant=tenant,
            gateway=gateway,
            max_gaps=max_gaps,
            complete=complete,
            as_json=as_json,
        ),
    )


@app.command()
def status(
    context: typer.Context,
    *,
    count_all: Annotated[
        bool,
        typer.Option("--count-all", help="Count readings without ids in every chunk, however long it takes."),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, max=3600, help="Seconds between two looks.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Show how the databases are, and the command that mends what is not well. Exit 1 for a breach."""
    from ingest.commands import status as command  # noqa: PLC0415 (imported when called: quick --help)

    if watch and as_json:
        raise typer.BadParameter("--json is one object: it does not go with --watch")
    finish(
        context,
        lambda invocation: command.run(
            invocation, as_json=as_json, count_all=count_all, watch=watch, every_s=every
        ),
    )


@app.command()
def maintain(
    context: typer.Context,
    period: Annotated[Literal["daily", "weekly", "monthly"], typer.Argument(help="Which steps.")],
    *,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STEP", help="Only this step of it; may be given several times."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a database needs now and then, and do it, with --yes. May be stopped and run again."""
    from ingest.commands import maintaining  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: maintaining.run(
            invocation, period=period, only=only or (), dry_run=dry_run, yes=yes, as_json=as_json
        ),
    )


@schema_app.command("migrate")
def schema_migrate(context: typer.Context, *, database: OnlyDatabase = None, as_json: Json = False) -> None:
    """Apply the migrations that are pending."""
    from ingest.commands import schema  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: schema.apply(invocation, only=database, as_json=as_json))


@schema_app.command("status")
def schema_status(context: typer.Context, *, database: OnlyDatabase = None, as_json: Json = False) -> None:
    """Show which migrations are applied; exit 1 when one is not."""
    from ingest.commands import schema  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: schema.status(invocation, only=database, as_json=as_json))


@schema_app.command("verify")
def schema_verify(context: typer.Context, *, database: OnlyDatabase = None, as_json: Json = False) -> None:
    """Compare the live tables with what the migrations make; exit 1 when something is missing."""
    from ingest.commands import schema  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: schema.verify(invocation, only=database, as_json=as_json))


@schema_app.command("plan")
def schema_plan(context: typer.Context, *, enable: Enable = False, as_json: Json = False) -> None:
    """Show which policies differ from the settings; exit 1 when one does."""
    from ingest.commands import policies  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: policies.plan(invocation, enable=enable, as_json=as_json))


@schema_app.command("apply")
def schema_apply(context: typer.Context, *, enable: Enable = False, as_json: Json = False) -> None:
    """Change the policies to what the settings say."""
    from ingest.commands import policies  # noqa: PLC0415 (imported when called: quick --help)

    finish(context, lambda invocation: policies.apply(invocation, enable=enable, as_json=as_json))


@schema_app.command("undo")
def schema_undo(
    context: typer.Context,
    *,
    database: OnlyDatabase = None,
    to: Annotated[
        str | None,
        typer.Option(help="The version to go back to, which is kept; without it the newest is undone."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try it in a transaction that is rolled back (it takes the locks until then)."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Take migrations back, newest first; refused where something would be lost."""
    from ingest.commands import undoing  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: undoing.run(invocation, only=database, to=to, dry_run=dry_run, as_json=as_json),
    )


@schema_app.command("baseline")
def schema_baseline(
    context: typer.Context,
    *,
    database: Annotated[DatabaseName, typer.Option(help="The database to adopt.")],
    at_version: Annotated[
        str | None, typer.Option("--version", help="The version it is at; without it, what Flyway recorded.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Adopt a live database: record migrations as done without running them."""
    from ingest.commands import schema  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: schema.baseline(
            invocation, database=database, version=at_version, as_json=as_json
        ),
    )
