"""HTTP without an API: request bodies, API keys, rate limits and error responses."""
