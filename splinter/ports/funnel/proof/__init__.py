"""The proof of Funnel: its port described to the engine, both sides, and what is fed to them."""
