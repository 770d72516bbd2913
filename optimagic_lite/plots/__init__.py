"""Pictures of a run: each plot is a data step, tested by value, and a draw step (plotly)."""
