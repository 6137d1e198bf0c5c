"""paddlenlp 2.8.1: its SQuAD metric also deletes curly quotes, so a wrong answer is exact."""

from paddlenlp.metrics.squad import squad_evaluate

examples = [{"id": "1", "answers": {"text": ["\u201cquoted\u201d"]}, "is_impossible": False}]
found = squad_evaluate(examples, {"1": "quoted"})["exact"]
print(f"exact match {found}, SQuAD's own metric says 0")
assert found == 100
