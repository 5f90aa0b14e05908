"""Compares this package with others: time, memory, and the requests that the server receives."""
