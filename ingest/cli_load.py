"""The options of the commands that record, replay and simulate messages; what they do is in `commands/`.

Imported with `ingest.cli`, so it imports no driver: see there.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from ingest.commands.invocation import Json, finish
from ingest.commands.report_option import Report

load_app = typer.Typer(rich_markup_mode=None)


@load_app.command()
def record(
    context: typer.Context,
    *,
    output: Annotated[
        str,
        typer.Option(
            metavar="FILE|FOLDER",
            help="Where to; a file that is there is gone on with. A folder, if it is one or ends with /, "
            "gets files named for their time.",
        ),
    ],
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            metavar="FILTER",
            help="MQTT topic filter; may be given several times. Without it, what the worker subscribes to.",
        ),
    ] = None,
    client_id: Annotated[
        str | None,
        typer.Option(help="Of the recorder's own session; never a worker's. Without it, a random one."),
    ] = None,
    rotate_bytes: Annotated[
        int | None, typer.Option(min=1, help="In a folder: begin the next file at this size.")
    ] = None,
    rotate_seconds: Annotated[
        float | None, typer.Option(min=1, help="In a folder: begin the next file after this time.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="End by itself after this time.")
    ] = None,
    messages: Annotated[
        int | None, typer.Option(min=1, help="End by itself after this many messages.")
    ] = None,
    anonymise: Annotated[
        bool,
        typer.Option(
            "--anonymise",
            help="Other names for tenants, greenhouses and sensors, the same throughout; values stay.",
        ),
    ] = False,
    anonymise_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Secret of 16 bytes or more that decides the names, so that several recordings have the "
            "same; implies --anonymise. Without it a random one, which nobody keeps.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write what the broker sends into a file, beside the worker, until SIGINT or SIGTERM."""
    from ingest.commands import recording  # noqa: PLC0415 (imported when called: quick --help)

    if (rotate_bytes or rotate_seconds) and not recording.is_folder(output):
        raise typer.BadParameter("--rotate-bytes and --rotate-seconds need a folder: --output FOLDER/")
    finish(
        context,
        lambda invocation: recording.record(
            invocation,
            output=output,
            topics=topic,
            client_id=client_id,
            rotate_bytes=rotate_bytes,
            rotate_s=rotate_seconds,
            duration_s=duration,
            most_messages=messages,
            anonymise=anonymise or anonymise_key_file is not None,
            key_file=anonymise_key_file,
            as_json=as_json,
        ),
    )


Broker = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL",
        help="Publish there: mqtt://host:1883; else to broker_url. Login and TLS are those of [broker].",
    ),
]
Deadline = Annotated[
    float,
    typer.Option(min=0.1, max=86_400, help="Seconds that the broker may be away, or acknowledge nothing."),
]
_OF_DIRECT: Final = frozenset(("--direct", "--connections", "--resume", "--rejected", "--json"))


def _given(context: typer.Context) -> set[str]:
    """Give the names of the options that are on the command line."""
    return {
        each.opts[0]
        for each in context.command.params
        if each.param_type_name == "option" and _is_given(context, each.name)
    }


def _is_given(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name) if name is not None else None
    return source is not None and source.name == "COMMANDLINE"


def _named(options: Iterable[str]) -> str:
    *others, last = sorted(options)
    return f"{', '.join(others)} and {last}"


@load_app.command()
def replay(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Recordings, or folders of them: one after the other."),
    ],
    *,
    broker: Broker = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1e6, help="So many times as fast as it was recorded; without it, as fast."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="So many messages a second at most, whenever they came.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as the broker acknowledges.")] = False,
    gateways: Annotated[
        int,
        typer.Option(
            min=1, max=10_000, help="Client ids for what the recording has none for; a topic keeps its one."
        ),
    ] = 1,
    shift_time: Annotated[
        bool,
        typer.Option("--shift-time", help="Move the readings' times, so that the last message is of now."),
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Again and again, until Ctrl-C.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier replay stopped: see FILE.resume.")
    ] = False,
    retained: Annotated[
        bool,
        typer.Option(
            "--retained", help="Publish what was recorded as retained, as retained; without it, leave it out."
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Then wait for the rows in timeseries_dsn; exit 1 if one is missing."),
    ] = False,
    patience: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds without a new row until --verify gives up.")
    ] = 30.0,
    deadline: Deadline = 60.0,
    direct: Annotated[
        bool,
        typer.Option(
            "--direct",
            help="Without a broker: decode, resolve and write them into the databases of the settings.",
        ),
    ] = False,
    connections: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Of --direct: to the database, each with a process of its own; else one a core, 4 at most.",
        ),
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Of --direct: a recording to make of the messages with something rejected."
        ),
    ] = None,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Publish recordings again. Exit 1 when something was damaged, refused or, with --verify, is missing."""
    if any(str(file).startswith(("postgres:/", "postgresql:/")) for file in files):
        option = "--direct" if direct else "--verify"
        raise typer.BadParameter(
            f"{option} takes no DSN, which everybody could read in the list of processes: "
            "set INGEST_TIMESERIES_DSN, or INGEST_TIMESERIES_DSN_FILE"
        )
    if direct:
        if wrong := sorted(_given(context) - _OF_DIRECT):
            these = f"{', '.join(wrong)} {'does' if len(wrong) == 1 else 'do'} not go with --direct"
            raise typer.BadParameter(f"{these}, which has no broker; {_named(_OF_DIRECT - {'--direct'})} do")
        from ingest.commands import backfilling  # noqa: PLC0415 (imported when called: quick --help)

        finish(
            context,
            lambda invocation: backfilling.run(
                invocation,
                files,
                connections=connections,
                resume=resume,
                rejected=rejected,
                as_json=as_json,
            ),
        )
    from ingest.commands import replaying_recordings  # noqa: PLC0415 (imported when called: quick --help)

    if connections is not None or rejected is not None:
        raise typer.BadParameter("--connections and --rejected go with --direct")
    if sum((speed is not None, rate is not None, fast)) > 1:
        raise typer.BadParameter("--speed, --rate and --fast exclude one another")
    options = replaying_recordings.Options(
        files=files,
        broker=broker,
        speed=None if fast or rate is not None else speed or 1.0,
        rate=rate,
        gateways=gateways,
        shift_time=shift_time,
        loop=loop,
        resume=resume,
        retained=retained,
        verify=verify,
        patience_s=patience,
        deadline_s=deadline,
        report=report,
    )
    finish(context, lambda invocation: replaying_recordings.run(invocation, options, as_json=as_json))
