"""The code that the adapters of httpx and httpx2 share. Nothing in this folder imports either library."""
