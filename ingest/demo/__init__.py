"""`ingest demo`: the whole product on embedded parts, checked against what was published.

Starts a broker and a TimescaleDB, migrates, registers tenants, runs the real worker as its own process,
publishes from a fleet of gateways over MQTT, compresses, and takes account. Nothing of it is used in
production.
"""

from ingest.demo.run import run_demo

__all__ = ["run_demo"]
