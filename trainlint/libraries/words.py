"""The words by which code shows, before it is run, that it may take part in training.

Cutting by names takes in too much rather than too little: what mentions none of them is taken to
compute its result from its arguments, and to leave them alone.
"""

from __future__ import annotations

from trainlint.rules.optimizer.requires_grad_misset import MISSPELLINGS as _MISSPELLINGS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GRADIENTS_OFF = _words("no_grad inference_mode")
GRADIENT_MODES = GRADIENTS_OFF | _words("set_grad_enabled enable_grad")
FLAGS = _words("training requires_grad requires_grad_")
"""What a statement that sets a flag mentions."""
MISSPELLINGS = _MISSPELLINGS

DROPPED = GRADIENT_MODES | _words("disable_adapter merge_and_unload unload")
"""Calls that do nothing, or lose what they made, where they stand as a statement."""

STEPS = _words(
    """train eval backward manual_backward step zero_grad optim fit Trainer requires_grad_
    DistributedSampler get_peft_model inject_adapter_in_model prepare_model_for_kbit_training
    load_adapter set_adapter add_adapter merge_adapter merge_and_unload unload disable_adapter
    disable_adapters
    """
)
"""What begins, ends or breaks a step of training: loading a model or a loss alone does not."""

PROTOCOL = (STEPS - FLAGS) | _words(
    """optimizer optimizers from_pretrained clip_grad_norm_ clip_grad_norm unscale_ GradScaler
    autograd grad cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits
    CrossEntropyLoss NLLLoss BCELoss BCEWithLogitsLoss
    """
)
"""What a function is run on its own account for: without these nothing is judged."""

DOMAIN = (
    PROTOCOL
    | GRADIENT_MODES
    | FLAGS
    | _words(
        """parameters named_parameters modules named_modules children from_config detach data item
        numpy argmax deepcopy clip_grad_value_ scale update add_param_group load_state_dict prepare
        unwrap_model accumulate nn Module DataParallel DistributedDataParallel compile
        unmerge_adapter model net forward set_epoch lr_scheduler freeze unfreeze yield
        """
    )
)
"""What a called function is run for: it may change or show something.

A file's sketch shows these of what its functions mention.
"""

STATEMENTS = DROPPED | FLAGS | MISSPELLINGS | _words("eval train zero_grad step backward")
"""What a statement has to mention to be worth a look by itself."""

OWN_PARAMETERS = _words("Parameter register_parameter ParameterList ParameterDict")
"""How a module gets parameters that are no part's."""
