"""Who judges trials by their epochs' results, ends or changes them: one file and one line each."""

from switokd.registry import Registry

# each a SchedulerEntry; the same names as the file's `search.scheduler`
SCHEDULERS = Registry(
    "scheduler",
    {
        "none": "tuning.schedulers.fifo:FIFO",
        "asha": "tuning.schedulers.asha:ASHA",
        "median": "tuning.schedulers.median:MEDIAN",
        "pbt": "tuning.schedulers.pbt:PBT",
    },
)
