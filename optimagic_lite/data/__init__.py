"""Data sets that come with the package: nonlinear regressions with certified solutions."""
