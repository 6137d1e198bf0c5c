"""The proof of JointBERT: its port described to the engine, both sides, and what is fed to them."""
