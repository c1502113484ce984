"""What an open watch does, a part for each thing that happens in training.

| part | what it keeps and judges |
| --- | --- |
| `settings` | what the user asked for |
| `plan` | prepared lists of the model's state, cheap to read again, whole or in turns |
| `model_view` | the watched model, held weakly, and what its state was at the last look |
| `findings` | what was found: each cause once, then raised, warned, logged or handed on |
| `forward` | what is remembered of one forward |
| `run` | how far the training is, shared by all parts |
| `modes` | training flags of a forward that trains, or evaluates |
| `evaluation` | functional dropout and buffers that move during an evaluation |
| `forwards` | the record of forwards: used by a backward, unused, kept alive |
| `optimizers` | each live optimizer and its parameters |
| `training` | structure, what requires gradients, adapters, ranks: at a backward |
| `ledger` | gradients from backward to step: filled, cleared, scaled, clipped |
| `backwards` | a backward: of which forward, with what graph |
| `coverage` | the optimizers against what trains; a network that none holds |
| `gradients` | gradients that are missing, absent or not finite at a step |
| `movement` | parameters that a step does not move |
| `steps` | a step, and the scheduler's |

Each imports only from those above it.
"""
