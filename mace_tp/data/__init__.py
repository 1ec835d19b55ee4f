"""Structures from files to padded batches: readers, neighbors, statistics, batching."""
