"""Trajectories of every solver, compared with diffusers."""
