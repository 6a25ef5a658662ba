"""From a model name to policies: loading, full copies, adapters on a shared base, 4 bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, load_peft_weights
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from cory.assets import asset_path
from cory.config import CORYConfig
from cory.distributed.memory import is_out_of_memory
from cory.distributed.world import SINGLE, World
from cory.io.hub import asking_the_hub
from cory.models.adapter_kinds import check_acting, check_driven, check_same_weights
from cory.models.complete import check_complete, check_json_objects, check_size
from cory.models.layers import keep_4bit_layout, use_exact_attention, use_fast_gelu
from cory.models.lora import use_lean_lora
from cory.models.pickles import refuse_pickled_adapter, refuse_pickled_weights
from cory.models.policy import LanguageModel, Policy
from cory.models.weights import Adapter, FullCopy

UNCOPIED = ("copy.deepcopy fails", "Take out what was added to it, or train adapters (use_peft)")
UNADAPTED = ("peft does not take it", "Correct peft_config, or leave the option out")
DAMAGED = (
    "its files are damaged, or of a kind that the installed libraries do not know",
    "Fetch or save it again",
)


def load_model(
    name: str, args: CORYConfig, quantization_config: BitsAndBytesConfig | None = None
) -> PreTrainedModel | PeftModel:
    """Load a causal LM, or an adapter on its base, from a directory, an embedded asset or the Hub.

    Raises:
        ValueError: there is no such model, or it is no causal LM.
    """
    path = asset_path(name)
    if args.load_in_4bit and quantization_config is None:
        quantization_config = nf4_config(args)
    options: dict[str, Any] = {
        "dtype": getattr(torch, args.dtype),
        "attn_implementation": args.attn_implementation,
        "trust_remote_code": args.trust_remote_code,
        "quantization_config": quantization_config,
        "use_safetensors": True,
    }
    options = {key: value for key, value in options.items() if value is not None}
    with readable(f"model_name_or_path={name!r} cannot be loaded as a causal language model"):
        check_json_objects(path)
        if not (Path(path) / "adapter_config.json").is_file():
            return _load_whole(path, options)
        refuse_pickled_adapter(path)
        base = PeftConfig.from_pretrained(path).base_model_name_or_path
        if not base:
            raise ValueError("its adapter_config.json names no base_model_name_or_path")
        if not (Path(path) / "adapter_model.safetensors").is_file():
            raise ValueError("it has an adapter_config.json, and no adapter_model.safetensors")
        model = PeftModel.from_pretrained(_load_whole(asset_path(base), options), path)
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
        check_same_weights(Path(path), load_peft_weights(path, "cpu"), own, model.state_dict())
        return model


def _load_whole(path: str, options: dict[str, Any]) -> PreTrainedModel:
    refuse_pickled_weights(path, "AutoModelForCausalLM")
    if Path(path).is_dir():
        trusts = options["trust_remote_code"]
        check_size(Path(path), AutoConfig.from_pretrained(path, trust_remote_code=trusts))
    with asking_the_hub(path):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    model, report = loaded
    check_complete(report, model.state_dict())
    return model


@contextmanager
def readable(what: str, cause_and_fix: tuple[str, str] = DAMAGED) -> Iterator[None]:
    """Context that names what breaks the libraries that read it, in whatever way.

    Args:
        what: cannot be used.
        cause_and_fix: of errors that are not meant for users.

    Raises:
        ValueError: what, and the reason.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:500]
        if not isinstance(error, (ImportError, OSError, ValueError)):
            cause, fix = cause_and_fix
            reason = f"{cause} ({type(error).__name__}: {reason}). {fix}"
        raise ValueError(f"{what}: {reason}") from error


def nf4_config(args: CORYConfig) -> BitsAndBytesConfig:
    """4-bit NF4 weights with double quantisation, computed in `args.dtype`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, args.dtype),
    )


def load_tokenizer(name: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer; see `ensure_pad_token`."""
    with readable(f"no tokenizer can be loaded from {name!r}"):
        path = asset_path(name)
        check_json_objects(path)
        with asking_the_hub(path):
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        if not any(tokenizer(text)["input_ids"] for text in ("a", "0", "?")):
            raise ValueError("it has no token for any letter. Fetch or save it again, complete")
    return ensure_pad_token(tokenizer)


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a tokenizer without padding token its end-of-sequence token for that.

    Args:
        tokenizer: that is loaded, or that a user passed.

    This is safe here because padding is known by masks, never by token id.

    Raises:
        ValueError: it has no end-of-sequence token either, or is no tokenizer.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(
            f"processing_class is {type(tokenizer).__name__}, and no tokenizer: pass the tokenizer "
            "that AutoTokenizer loads, of a processor its .tokenizer"
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ValueError(
                "the tokenizer has neither a padding nor an end-of-sequence token: set "
                "tokenizer.pad_token to any token of its vocabulary"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_policies(
    model: PreTrainedModel | PeftModel,
    args: CORYConfig,
    peft_config: PeftConfig | None = None,
    world: World = SINGLE,
) -> tuple[list[Policy], LanguageModel]:
    """`args.num_agents` policies that start as the same model, and the frozen reference.

    Without adapters each policy and the reference are full copies. With adapters
    (`args.use_peft`, a `peft_config`, or a model that already carries an adapter) all share one
    frozen base.

    Raises:
        ValueError: `args.shard_weights` and adapters; a model without a language-model head; an
            adapter that agents cannot own.
    """
    base = cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
    if getattr(base.get_output_embeddings(), "weight", None) is None:
        raise ValueError(
            f"{type(base).__name__} has no head that gives logits of tokens by one matrix: pass a "
            "causal language model, such as AutoModelForCausalLM loads"
        )
    use_fast_gelu(model)
    keep_4bit_layout(model)
    if args.bf16 is True or base.dtype != torch.float32:
        use_exact_attention(base)
    if isinstance(model, PeftModel) or args.use_peft or peft_config is not None:
        if args.shard_weights:
            raise ValueError("shard_weights=True spreads full copies, not adapters: leave it out")
        return _adapter_policies(model, args, peft_config)
    return _full_policies(model, args, world)


def _full_policies(
    model: PreTrainedModel, args: CORYConfig, world: World
) -> tuple[list[Policy], LanguageModel]:
    policies: list[Policy] = []
    for _ in range(args.num_agents):
        with readable("the model cannot be copied for each agent", UNCOPIED):
            own = copy.deepcopy(model)
        policy = Policy(FullCopy(own), args.bf16 is True)
        if args.gradient_checkpointing:
            checkpoint_gradients(policy.model)
        if args.shard_weights:
            world.shard(policy)
        policies.append(policy)
    # It is only ever read without gradients; the user's object stays as it was.
    reference = LanguageModel(model, bf16=args.bf16 is True)
    if args.shard_weights:
        world.shard(reference)
    return policies, reference


def _adapter_policies(
    model: PreTrainedModel | PeftModel, args: CORYConfig, peft_config: PeftConfig | None
) -> tuple[list[Policy], LanguageModel]:
    names = [f"agent_{index}" for index in range(args.num_agents)]
    if isinstance(model, PeftModel):
        if taken := sorted(set(names) & set(model.peft_config)):
            raise ValueError(
                f"the model's adapter is called {taken[0]!r}, a name that cory gives to an agent's "
                "own: load it under another name"
            )
        peft_model, initial = model, model.active_adapters[0]
        check_driven(peft_model.peft_config[initial])
        check_acting(peft_model, peft_config)
        activate_reference = Adapter(peft_model, initial, is_trainable=False).activate
    else:
        config = peft_config or lora_config(args, model)
        check_driven(config)
        with readable("the model cannot get adapters as peft_config says", UNADAPTED):
            peft_model, initial = get_peft_model(model, config, adapter_name=names[0]), names[0]
        activate_reference = peft_model.disable_adapter
    start = get_peft_model_state_dict(peft_model, adapter_name=initial, save_embedding_layers=False)
    for name in names:
        if name not in peft_model.peft_config:
            peft_model.add_adapter(name, copy.deepcopy(peft_model.peft_config[initial]))
            set_peft_model_state_dict(peft_model, start, adapter_name=name)
    use_lean_lora(peft_model)
    if args.bf16 is True:
        # Autocast would take the copy in float32 that peft makes of every input back to bfloat16.
        for layer in peft_model.modules():
            if isinstance(layer, LoraLayer):
                layer.cast_input_dtype_enabled = False
    policies = [Policy(Adapter(peft_model, name), args.bf16 is True) for name in names]
    base = policies[0].model
    if args.gradient_checkpointing:
        checkpoint_gradients(base)
    return policies, LanguageModel(base, activate_reference, args.bf16 is True)


def lora_config(args: CORYConfig, model: PreTrainedModel) -> LoraConfig:
    """The adapter that the settings describe, for this model."""
    return LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        target_modules=args.lora_target_modules or "all-linear",
        # GPT-2 has transposed linear layers.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )


def checkpoint_gradients(model: PreTrainedModel) -> None:
    """Recompute the activations of each layer in the backward pass.

    The switch of transformers works in training mode only, in which a layer may apply dropout, and
    it takes the key-value cache away.

    Raises:
        ValueError: the model has no such layers.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"gradient_checkpointing=True, but {type(model).__name__} does not support it: set "
            "gradient_checkpointing=False"
        )
    for layer in layers:
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False
        )
