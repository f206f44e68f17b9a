"""Who judges trials by their epochs' results, ends or changes them: one file and one line each."""

from switokd.registry import Registry

# each builds Tune's scheduler of (experiment, progress, past trials); what a file must have for one
# is said by the entry of the same name in `switokd.spec.search.SCHEDULERS`
SCHEDULERS = Registry(
    "scheduler",
    {
        "none": "tuning.schedulers.fifo:build",
        "asha": "tuning.schedulers.asha:build",
        "median": "tuning.schedulers.median:build",
        "pbt": "tuning.schedulers.pbt:build",
    },
)
