"""Every solver's trajectories beside diffusers'."""
