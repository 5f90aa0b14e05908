"""What the adapter of requests needs: sending token requests, and sending a refused request again."""
