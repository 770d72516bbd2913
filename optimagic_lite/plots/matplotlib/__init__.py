"""A plotly figure of this package, drawn by matplotlib; nothing else loads matplotlib."""
