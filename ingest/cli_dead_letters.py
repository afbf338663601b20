"""The options of `ingest dead-letters`; what its commands do is in `commands/`.

Imported with `ingest.cli`, so it imports no driver: see there.
"""

from typing import Annotated

import typer

from ingest.commands.invocation import Json, Rehearsed, finish

dead_letters_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_MAX_ID = 2**63 - 1

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="With this reject reason; several: any of them."),
]
Topic = Annotated[str | None, typer.Option(help="Of this topic; MQTT wildcards + and # work.")]
Tenant = Annotated[
    str | None,
    typer.Option(
        help="Of this tenant: topic prefix, name or id. A message that came before its tenant was known "
        "has none: use --topic."
    ),
]
Since = Annotated[str | None, typer.Option(help="Received at or after: ISO 8601, or 30m, 12h, 7d ago.")]
Until = Annotated[str | None, typer.Option(help="Received before: as --since.")]
Numbers = Annotated[
    list[int] | None,
    typer.Option("--id", metavar="ID", min=1, max=_MAX_ID, help="Only this one; may be given several times."),
]


@dead_letters_app.command("list")
def dead_letters_list(
    context: typer.Context,
    *,
    reason: Reasons = None,
    topic: Topic = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List messages that lost fields, newest first."""
    from ingest.commands import dead_letters  # noqa: PLC0415 (imported when called: quick --help)
    from ingest.commands.letter_options import LetterOptions  # noqa: PLC0415 (as above)

    options = LetterOptions(reason or (), topic, tenant, since, until)
    finish(
        context,
        lambda invocation: dead_letters.list_newest(invocation, options, limit=limit, as_json=as_json),
    )


@dead_letters_app.command("show")
def dead_letters_show(
    context: typer.Context,
    dead_letter_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=_MAX_ID, help="Its number.")],
    *,
    as_json: Json = False,
) -> None:
    """Show one message: topic, rejected fields with their reasons, payload."""
    from ingest.commands import dead_letters  # noqa: PLC0415 (imported when called: quick --help)

    finish(
        context,
        lambda invocation: dead_letters.show(invocation, dead_letter_id=dead_letter_id, as_json=as_json),
    )


@dead_letters_app.command("replay")
def dead_letters_replay(
    context: typer.Context,
    *,
    reason: Reasons = None,
    topic: Topic = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    number: Numbers = None,
    dry_run: Rehearsed = False,
    rate: Annotated[
        float | None,
        typer.Option(min=1, help="At most this many readings a second; without it, as fast as it goes."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode and resolve rejected fields again, judged by the time they were received.

    Without a filter all dead letters. Exit 1 when something is rejected still. May be stopped and run again.
    """
    from ingest.commands import replaying  # noqa: PLC0415 (imported when called: quick --help)
    from ingest.commands.letter_options import LetterOptions  # noqa: PLC0415 (as above)

    options = LetterOptions(reason or (), topic, tenant, since, until, letters=number or ())
    finish(
        context,
        lambda invocation: replaying.run(
            invocation, options, dry_run=dry_run, rate_rows_s=rate, as_json=as_json
        ),
    )


@dead_letters_app.command("purge")
def dead_letters_purge(
    context: typer.Context,
    *,
    reason: Reasons = None,
    topic: Topic = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    older_than: Annotated[
        str | None, typer.Option(help="Received longer ago than this: 90d, 12h; or before a time.")
    ] = None,
    number: Numbers = None,
    everything: Annotated[bool, typer.Option("--all", help="Of any age.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be deleted, by reason.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete dead letters for good; needs --older-than (or --until, --id, --all), and --yes."""
    from ingest.commands import purging  # noqa: PLC0415 (imported when called: quick --help)
    from ingest.commands.letter_options import LetterOptions  # noqa: PLC0415 (as above)

    options = LetterOptions(reason or (), topic, tenant, since, until, older_than, number or ())
    finish(
        context,
        lambda invocation: purging.run(
            invocation, options, everything=everything, dry_run=dry_run, yes=yes, as_json=as_json
        ),
    )
