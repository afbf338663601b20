"""Load: messages recorded, replayed, simulated; readings imported and exported. No stage of the pipeline.

`recording` is the file that all of it shares.
"""
