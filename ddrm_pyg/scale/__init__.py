"""Past one machine's memory: a world on disk, in shards of users."""
