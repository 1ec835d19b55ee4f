"""The process: devices, caches, versions, compilation times, forks and exits."""
