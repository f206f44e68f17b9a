"""What a sweep takes before it runs: time, disk, and how many trials share a GPU."""
