"""paddlenlp 2.8.1: of equal logits the last position answers; SQuAD's scripts take the first."""

from paddlenlp.metrics.squad import compute_prediction


class Examples(list):
    def __getitem__(self, key):
        return [one[key] for one in self] if isinstance(key, str) else list.__getitem__(self, key)


features = [{"example_id": "q", "offset_mapping": [None, (0, 3), (4, 7)]}]
answers, *_ = compute_prediction(
    Examples([{"id": "q", "context": "one two"}]), features, ([[-9.0, 0, 0]], [[-9.0, 0, 0]])
)
print(f"both words have equal logits; answer {answers['q']!r}")
assert answers["q"] == "two"
