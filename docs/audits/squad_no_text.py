"""paddlenlp 2.8.1: IndexError where no candidate has a text."""

from paddlenlp.metrics.squad import compute_prediction


class Examples(list):
    def __getitem__(self, key):
        return [one[key] for one in self] if isinstance(key, str) else list.__getitem__(self, key)


features = [{"example_id": "q", "offset_mapping": [None, None, (0, 0)]}]
scores = ([[0.0, 0, 0]], [[0.0, 0, 0]])
try:
    compute_prediction(Examples([{"id": "q", "context": "one"}]), features, scores, version_2_with_negative=True)
except IndexError as error:
    print(f"IndexError: {error}")
else:
    raise AssertionError("mended")
