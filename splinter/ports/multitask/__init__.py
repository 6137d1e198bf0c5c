"""Multi-task BERT: sentiment, paraphrase and similarity of sentences with one encoder."""
