"""Timings side by side with a peer, printed as ratios.

Each module is run by itself, `python -m benchmarks.NAME`, and prints JSON as
its last line; `python -m benchmarks` runs all of them and prints a table.
Needs the extra `benchmarks`, and a machine that does nothing else.
"""
