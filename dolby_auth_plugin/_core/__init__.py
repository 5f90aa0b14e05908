"""What every adapter shares. Nothing in this folder imports an HTTP library."""
