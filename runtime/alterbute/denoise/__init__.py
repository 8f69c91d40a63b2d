"""Denoising: a request compiled to data (the plan), and the lane of slots that runs it with one launch of the step graph a step."""
