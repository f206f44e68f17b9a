"""What the trials left in MLflow, as tables, figures and pages.

Data flows one way: store -> `runs` (the only reader of MLflow) -> `statistics` -> `comparison`,
`figures` -> terminal, report or page. Everything after `runs` is a pure function of DataFrames.
"""
