"""Several worker processes on one host: `supervisor` starts them, `line` connects each with it.

A worker in a group is the worker as ever (`ingest.worker`), with a client id and a share of its own.
"""
