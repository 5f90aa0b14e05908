"""The code that all adapters share. Nothing in this folder imports an HTTP library."""
