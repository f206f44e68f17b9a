"""Where Ray is: the cluster, what runs on its workers, and what it must find in the environment."""
