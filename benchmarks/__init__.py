"""What authorizing a request costs with this package, and with others: times, memory, and what the server sees."""
