"""Denoising: a request compiled to data (the plan), and the lane of slots that runs plans, one launch of the step graph per step."""
