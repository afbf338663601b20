"""What an operator asks for, behind the commands of the same names; none of it runs in the worker.

Each module talks to the databases itself, prints nothing and returns plain values: `ingest.cli`
shows them as tables or as JSON.
"""
