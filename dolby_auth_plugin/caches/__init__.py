"""Stores that let many processes or machines share one token: a protocol, a cache in files, a cache in Redis."""
