"""JointBERT: intent of a sentence and a slot tag for each of its words, by one BERT."""
