"""The proof of the multi-task BERT: its port described to the engine, both sides, and what is fed to them."""
