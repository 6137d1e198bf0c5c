"""The proof of pretraining: what is fed to both sides, and mining restated."""
