"""Training of the demo's autoencoder and editor."""
