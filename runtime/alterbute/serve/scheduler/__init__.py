"""Step-level batching: queues, admission at step boundaries, the worker thread of a device, and encode and decode around it."""
