"""Benchmarks of optimisers: sets of test problems, runs of many algorithms, reports."""
