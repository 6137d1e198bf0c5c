"""paddlenlp 2.8.1: its SQuAD 2.0 metric swaps the questions with an answer and those without."""

from paddlenlp.metrics.squad import squad_evaluate

examples = [
    {"id": "1", "answers": {"text": ["a"]}, "is_impossible": False},
    {"id": "2", "answers": {"text": []}, "is_impossible": True},
]
found = squad_evaluate(examples, {"1": "a", "2": "b"}, {"1": 0.0, "2": 0.0}, 1.0)
print(
    f"the answerable question is right, the other wrong; HasAns {found['HasAns_exact']}, NoAns {found['NoAns_exact']}"
)
assert (found["HasAns_exact"], found["NoAns_exact"]) == (0, 100)
