"""How the next points of a search are chosen by the results of others: one file and one line."""

from switokd.registry import Registry

# each builds a Tune searcher of (experiment, plan, store, progress); of the algorithms that are not
# here all trials are known before any is trained
GUIDED_SEARCHES = Registry("search algorithm", {"tpe": "tuning.search.tpe:build"})
