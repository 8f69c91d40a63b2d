"""Decoding of the server's picture files in processes of their own, each job with a limit of CPU time and of memory."""
