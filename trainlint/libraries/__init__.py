"""What the libraries do, as data."""

from trainlint.libraries.builtin import BUILTIN
from trainlint.libraries.catalogue import Catalogue
from trainlint.libraries.graph import GRAPH
from trainlint.libraries.huggingface import HUGGINGFACE
from trainlint.libraries.peft import PEFT
from trainlint.libraries.runners import RUNNERS
from trainlint.libraries.torch import TORCH
from trainlint.libraries.trainers import TRAINERS

LIBRARY = Catalogue((BUILTIN, TORCH, GRAPH, HUGGINGFACE, PEFT, RUNNERS, TRAINERS))

__all__ = ["LIBRARY", "Catalogue"]
