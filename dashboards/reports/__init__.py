"""The comparison for reading elsewhere: the terminal, CSV, LaTeX and one HTML file."""
