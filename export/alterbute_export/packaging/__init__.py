"""What makes graphs a bundle: manifest, solver table, signature, publishing."""
