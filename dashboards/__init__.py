"""What the trials left in MLflow, as tables, figures and pages.

Data flows one way: `switokd.tracking.store` -> `store` -> `analysis` -> `figures` -> `reports`, the
terminal and `pages`. Everything after `store` is a pure function of DataFrames; imports go
`analysis` < `store`, `figures` < `reports` < `pages`.
"""
