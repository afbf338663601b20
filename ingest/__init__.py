"""Greenhouse ingestion worker: MQTT in, normalised TimescaleDB rows out.

    gateway -> broker -> receive -> decode -> resolve -> write -> TimescaleDB
                            ^                              |
                            +------ ack, in order ---------+

Each arrow is a sub-package; they never import each other. `worker` wires them together and is
the place to start reading; `model` holds the values they hand on, `errors` what can go wrong.
"""
