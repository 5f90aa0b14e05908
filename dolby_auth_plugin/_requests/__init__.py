"""The parts of the adapter for requests: sending token requests, and sending a refused request again."""
