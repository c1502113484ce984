"""PEFT: configs, factories and methods that change mode, trainability, activity or identity."""

from trainlint.libraries.spec import (
    Context,
    Harmless,
    Inject,
    LoadAdapters,
    Operation,
    PrepareQuantised,
    Settings,
    Spec,
    Table,
)

_TUNERS = (
    "AdaLora Adamss AdaptionPrompt BOFT BdLora Beft C3A Deft Delora FourierFT Frod Glora Gralora"
    " HRA Hira IA3 Kasa LNTuning Lily LoHa LoKr LoraGA Miss Bone Monteclora OFT OSF"
    " Peanut Poly Psoft Pvera RandLora Road Shadow Shira Supertuning TinyLora"
    " TrainableTokens UniLora VBLoRA Velora Vera WaveFT XLora Arrow"
).split()
_PROMPTS = (
    "PromptTuning PrefixTuning PromptEncoder MultitaskPromptTuning CPT PromptLearning Cartridge"
).split()
_PARTLY_FROZEN = ("CPT", "Cartridge")
_TASKS = (
    "CausalLM SequenceClassification TokenClassification QuestionAnswering Seq2SeqLM"
    " FeatureExtraction"
).split()
_TUNER_MODULES = (
    "adalora adamss adaption_prompt beft boft c3a cartridge cpt deft delora fourierft frod"
    " glora gralora hira hra ia3 lily ln_tuning loha lokr lora miss mixed"
    " multitask_prompt_tuning oft osf p_tuning peanut poly prefix_tuning prompt_tuning psoft"
    " pvera randlora road shadow shira supertuning tinylora trainable_tokens unilora vblora"
    " vera waveft xlora"
).split()

_CONFIGS: dict[str, Spec] = {
    "peft.LoraConfig.from_pretrained": Settings("peft_config", "the LoRA weights", saved=True),
    "peft.PeftConfig": Settings("peft_config", "the adapters' weights"),
    "peft.PeftConfig.from_pretrained": Settings("peft_config", "the adapters' weights", saved=True),
    "peft.get_peft_config": Settings("peft_config", "the adapters' weights"),
    **{f"peft.{n}Config": Settings("peft_config", "the adapters' weights") for n in _TUNERS},
    **{
        f"peft.{n}Config.from_pretrained": Settings(
            "peft_config", "the adapters' weights", saved=True
        )
        for n in _TUNERS
    },
    **{
        f"peft.{n}Config": Settings(
            "peft_config",
            "the prompt's weights",
            prompt=True,
            frozen_for_inference=n == "Cartridge",
            partly=n in _PARTLY_FROZEN,
        )
        for n in _PROMPTS
    },
    **{
        f"peft.{n}Config.from_pretrained": Settings(
            "peft_config",
            "the prompt's weights",
            saved=True,
            prompt=True,
            frozen_for_inference=n == "Cartridge",
            partly=n in _PARTLY_FROZEN,
        )
        for n in _PROMPTS
    },
    "peft.LoraConfig": Settings(
        "peft_config",
        "the LoRA weights",
        rate="lora_dropout",
        partly_if=("init_lora_weights", "mica"),
    ),
    "peft.AdaptionPromptConfig": Settings(
        "peft_config", "the adapters' weights", activates=True, frozen_for_inference=False
    ),
}

_MODELS: dict[str, Spec] = {
    "peft.get_peft_model": Inject(),
    "peft.inject_adapter_in_model": Inject(model=1, config=0, wraps=False),
    "peft.PeftModel": Inject(),
    "peft.PeftMixedModel": Inject(),
    "peft.LoraModel": Inject(config_name="config", wrapper="tuner"),
    "peft.PeftModel.from_pretrained": LoadAdapters(),
    "peft.PeftMixedModel.from_pretrained": LoadAdapters(freezes=False),
    "peft.AutoPeftModel.from_pretrained": LoadAdapters(onto=False, name=1, trainable=2),
    **{f"peft.PeftModelFor{task}": Inject() for task in _TASKS},
    **{f"peft.PeftModelFor{task}.from_pretrained": LoadAdapters() for task in _TASKS},
    **{
        f"peft.AutoPeftModelFor{task}.from_pretrained": LoadAdapters(
            onto=False, name=1, trainable=2
        )
        for task in _TASKS
    },
    "peft.prepare_model_for_kbit_training": PrepareQuantised(),
    "peft.prepare_model_for_int8_training": PrepareQuantised(),
}

_LEAVES_ALONE: dict[str, Spec] = {
    f"peft.{name}": Harmless()
    for name in (
        "get_peft_model_state_dict cast_mixed_precision_params"
        " get_layer_status get_model_status load_peft_weights replace_lora_weights_loftq"
        " initialize_lora_eva_weights get_eva_state_dict find_kappa_target_modules"
        " preprocess_loraga LoftQConfig EvaConfig CordaConfig LoraRuntimeConfig TaskType PeftType"
        " bloom_model_postprocess_past_key_value shift_tokens_right"
    ).split()
}

PEFT = Table(
    calls={
        **_LEAVES_ALONE,
        **_CONFIGS,
        **_MODELS,
        "peft.helpers.rescale_adapter_scale": Context("neutral"),
        "peft.helpers.disable_input_dtype_casting": Context("neutral"),
        "peft.utils.fsdp_auto_wrap_policy": Harmless(),
        "peft.utils.other.fsdp_auto_wrap_policy": Harmless(),
        "peft.helpers.check_if_peft_model": Harmless(),
        "peft.helpers.update_forward_signature": Harmless(),
        "peft.helpers.update_generate_signature": Harmless(),
        "peft.convert_to_lora": Operation("same_all"),
        "peft.set_peft_model_state_dict": Operation("restored"),
    },
    aliases=(
        ("peft.mapping.get_peft_model", "peft.get_peft_model"),
        ("peft.mapping_func.get_peft_model", "peft.get_peft_model"),
        ("peft.mapping.get_peft_config", "peft.get_peft_config"),
        ("peft.mapping.inject_adapter_in_model", "peft.inject_adapter_in_model"),
        ("peft.peft_model", "peft"),
        ("peft.mixed_model", "peft"),
        ("peft.auto", "peft"),
        ("peft.config.PeftConfig", "peft.PeftConfig"),
        ("peft.utils.prepare_model_for_kbit_training", "peft.prepare_model_for_kbit_training"),
        (
            "peft.utils.other.prepare_model_for_kbit_training",
            "peft.prepare_model_for_kbit_training",
        ),
        ("peft.utils.get_peft_model_state_dict", "peft.get_peft_model_state_dict"),
        ("peft.utils.set_peft_model_state_dict", "peft.set_peft_model_state_dict"),
        ("peft.utils.save_and_load.set_peft_model_state_dict", "peft.set_peft_model_state_dict"),
        ("peft.utils.TaskType", "peft.TaskType"),
        ("peft.utils.peft_types.TaskType", "peft.TaskType"),
        *((f"peft.tuners.{module}", "peft") for module in _TUNER_MODULES),
        ("peft.tuners", "peft"),
    ),
    module_bases=(
        "peft.PeftModel",
        "peft.PeftMixedModel",
        *(f"peft.PeftModelFor{task}" for task in _TASKS),
    ),
    adapter_methods=(
        ("add_adapter", "add"),
        ("load_adapter", "load"),
        ("set_adapter", "activate"),
        ("set_requires_grad", "require"),
        ("delete_adapter", "delete"),
        ("disable_adapter", "disable_within"),
        ("disable_adapter_layers", "disable"),
        ("enable_adapter_layers", "enable"),
        ("merge_adapter", "merge"),
        ("unmerge_adapter", "unmerge"),
        ("merge_and_unload", "unload"),
        ("unload", "unload"),
        ("get_base_model", "base"),
        ("save_pretrained", "save"),
        ("push_to_hub", "save"),
        ("add_weighted_adapter", "combine"),
        ("print_trainable_parameters", "look"),
        ("get_nb_trainable_parameters", "look"),
        ("get_model_status", "look"),
        ("get_layer_status", "look"),
        ("create_or_update_model_card", "look"),
        ("get_prompt_embedding_to_save", "look"),
        ("supports_lora_conversion", "look"),
    ),
    native_prefixes=("transformers.", "diffusers.", "sentence_transformers."),
    native_methods=(
        ("add_adapter", "native_add"),
        ("load_adapter", "native_load"),
        ("load_lora_adapter", "native_load_to_train"),
        ("set_adapter", "activate"),
        ("set_adapters", "activate"),
        ("delete_adapter", "delete"),
        ("delete_adapters", "delete"),
        ("disable_adapters", "disable"),
        ("disable_lora", "disable"),
        ("enable_adapters", "enable"),
        ("enable_lora", "enable"),
        ("active_adapters", "look"),
        ("active_adapter", "look"),
        ("get_adapter_state_dict", "look"),
        ("fuse_lora", "merge"),
        ("unfuse_lora", "unmerge"),
    ),
)
