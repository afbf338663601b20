"""Whole-path benchmarks: ratios measured in one run, never timed tests. See `python -m bench --help`."""
