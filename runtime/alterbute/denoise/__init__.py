"""Denoising: a request compiled to data (plan), and the lane of slots that runs it, one launch of the step graph per step."""
