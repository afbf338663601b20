"""The options of the commands that record, replay and simulate messages; what they do is in `commands/`.

Imported with `ingest.cli`, so it imports no driver: see there.
"""

from pathlib import Path
from typing import Annotated

import typer

from ingest.commands.invocation import Json, finish

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
