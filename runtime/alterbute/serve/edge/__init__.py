"""Which hosts, origins and path prefixes the server accepts: rules as values, without HTTP or settings."""
