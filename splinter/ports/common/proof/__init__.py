"""What the proofs of the systems share."""
