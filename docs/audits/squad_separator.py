"""paddlenlp 2.8.1: an answer may end on the final separator, whose offset (0, 0) is neither None nor empty."""

from paddlenlp.metrics.squad import compute_prediction

features = [{"example_id": "q", "offset_mapping": [None, (0, 3), (4, 7), (0, 0)]}]
scores = ([[0.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 9.0]])  # the highest end is that of the separator


class Examples(list):
    def __getitem__(self, key):
        return [one[key] for one in self] if isinstance(key, str) else list.__getitem__(self, key)


_, found, _ = compute_prediction(Examples([{"id": "q", "context": "one two"}]), features, scores)
print(f"best candidate: {found['q'][0]}")
assert found["q"][0]["text"] == "" and found["q"][0]["end_logit"] == 9
