"""How the adapter of requests sends a token request."""
