"""What each command of `ingest` does: reads the settings, calls the part that works, prints a report.

`ingest.cli` holds the options and loads one of these modules when its command is called, so that
`ingest --help` imports no driver. A command returns its exit code: 0 good, 1 a check failed.
"""
