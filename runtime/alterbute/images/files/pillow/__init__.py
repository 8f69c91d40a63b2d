"""Pictures that Pillow reads, and those that it opened for the caller."""
