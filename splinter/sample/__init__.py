"""The data set that the project ships: invented passages, MRQA and SQuAD files made from them, a vocabulary."""

from pathlib import Path

PATH = Path(__file__).parent
