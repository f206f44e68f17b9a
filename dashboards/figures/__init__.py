"""Numbers turned into plots: Plotly, matplotlib and HTML grids in one theme."""
