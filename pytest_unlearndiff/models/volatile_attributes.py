"""Attributes that a hash of a pipeline leaves out: nothing that is drawn depends on them, or they are walked apart."""

from __future__ import annotations

import functools

import torch

# Kept by torch.nn.Module itself: walked apart, or only about state dicts, which are not read here.
OF_MODULES = frozenset(
    {
        *(name for name in vars(torch.nn.Module()) if name.startswith("_")),
        *("_compiled_call_impl", "_is_torch_compile"),
        "_super_module_initialized",
        "training",  # every victim is put into evaluation mode
    }
)

# Where something came from, or what a call leaves behind and the next one sets again.
VOLATILE = frozenset(
    {
        *("_commit_hash", "_diffusers_version", "_name_or_path", "name_or_path", "transformers_version"),
        *("init_inputs", "init_kwargs", "files_loaded", "vocab_file", "merges_file", "tokenizer_file"),
        *("chat_template", "deprecation_warnings", "verbose"),
        *("_is_hf_initialized", "_output_capturing_hooks_installed"),
    }
)
VOLATILE_OF_SETTINGS = VOLATILE | {"_class_name", "_use_default_values"}
VOLATILE_OF_PIPELINES = frozenset(
    {
        *("_clip_skip", "_cross_attention_kwargs", "_current_timestep", "_denoising_end", "_guidance_rescale"),
        *("_guidance_scale", "_interrupt", "_num_timesteps", "_progress_bar_config"),
        *("_all_hooks", "_offload_device", "_offload_gpu_id", "hf_device_map"),
    }
)
VOLATILE_OF_SCHEDULERS = frozenset(
    {
        *("_begin_index", "_step_index", "_timesteps", "num_inference_steps", "timesteps"),
        *("sigmas", "sigmas_down", "sigmas_interpol", "sigmas_up", "log_sigmas"),
        *("counter", "cur_model_output", "cur_sample", "derivatives", "dt", "ets", "is_scale_input_called"),
        *("last_sample", "lower_order_nums", "model_outputs", "noise_sampler", "prev_derivative", "prev_timestep"),
        *("prk_timesteps", "plms_timesteps", "sample", "this_order", "timestep_list"),
        *("custom_timesteps", "order_list"),
    }
)


# Set by accelerate where weights leave the device between calls, which changes nothing that is drawn.
OF_OFFLOADING = frozenset({"_hf_hook", "_old_forward", "forward"})
_OFFLOADING_HOOKS = ("accelerate.hooks.CpuOffload", "accelerate.hooks.AlignDevicesHook")


def is_offloaded(module: torch.nn.Module) -> bool:
    """Tell whether a module's forward is its own behind a hook of accelerate that only moves weights and inputs."""
    attributes = vars(module)
    hook, forward = attributes.get("_hf_hook"), attributes.get("forward")
    if not isinstance(forward, functools.partial) or "_old_forward" not in attributes:
        return False
    kind, wrapper = type(hook), getattr(forward.func, "__module__", "")
    return f"{kind.__module__}.{kind.__qualname__}" in _OFFLOADING_HOOKS and wrapper == "accelerate.hooks"
