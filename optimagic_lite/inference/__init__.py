"""Derivatives, covariances and standard errors at the solution of a run."""
