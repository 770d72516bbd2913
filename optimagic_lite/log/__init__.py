"""The record of runs on disk: tables, the writer of a run, and the reader."""
