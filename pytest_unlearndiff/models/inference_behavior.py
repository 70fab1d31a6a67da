"""Hash what a pipeline object does at inference, or say why no hash can stand for it.

Weights alone do not decide what a pipeline object draws: hooks, attention processors, replaced methods and subclasses
act as it draws. Everything that is reachable from the pipeline is walked. Numbers, texts, tensors and settings are
hashed, and so are the names of classes and functions of the libraries, whose code is taken as known. Anything else is
code or state of the user's own, of which two versions look alike from here: it is a reason why the hash does not stand
for the pipeline.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from ..sources.resolve import import_string
from .families.lookup import family_of
from .libraries import (
    HELPERS,
    cell_content,
    code_of,
    compiled_module,
    is_library_class,
    is_library_code,
    is_own_method,
    origin,
    qualified_name,
)
from .pipeline_folders import CHECKER
from .volatile_attributes import (
    OF_MODULES,
    OF_OFFLOADING,
    VOLATILE,
    VOLATILE_OF_PIPELINES,
    VOLATILE_OF_SCHEDULERS,
    VOLATILE_OF_SETTINGS,
    is_offloaded,
)

_HOOKS = {
    "_forward_hooks": "forward hook on",
    "_forward_pre_hooks": "forward pre-hook on",
    "_backward_hooks": "backward hook on",
    "_backward_pre_hooks": "backward pre-hook on",
}
_GLOBAL_HOOKS = tuple(name.replace("_", "_global_", 1) for name in _HOOKS)

# Where torch.compile keeps what it compiles with, from the outermost wrapper inwards.
_BACKENDS = ("_torchdynamo_orig_backend", "compiler_fn")


@dataclass(frozen=True)
class InferenceBehavior:
    """The content of a pipeline object, hashed.

    Attributes:
        digest: hash of its weights and everything else that is reachable, in 16 hex digits.
        reasons: what the digest does not stand for, each such as ``forward hook on unet.mid_block (<sae.Hook>)``;
            empty where it stands for the pipeline.
    """

    digest: str
    reasons: tuple[str, ...] = ()


def inference_behavior(pipe: Any, *, safety_checker: bool = False, weights: bool = True) -> InferenceBehavior:
    """Walk a pipeline.

    Args:
        pipe: the pipeline; nothing of it is changed.
        safety_checker: whether its safety checker is part of what is tested.
        weights: whether tensors are hashed, which takes as long as reading them; without them, only the reasons count.
    """
    walk = _Walk(weights=weights)
    walk.pipeline(pipe, safety_checker=safety_checker)
    return InferenceBehavior(walk.digest, walk.reasons)


class _Walk:
    """One walk over everything that a pipeline holds."""

    def __init__(self, *, weights: bool) -> None:
        self._weights = weights
        self._hash = hashlib.sha256()
        self._reasons: dict[tuple[str, str], list[str]] = {}
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no two of them have one id
        self._classes: set[type] = set()
        self._modules: set[str] = set()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons why the digest is not enough, the same thing in several places told once."""
        return tuple(_reason_text(*what, paths) for what, paths in self._reasons.items())

    def _note(self, *parts: object) -> None:
        for part in parts:
            text = str(part).encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(text) + text)

    def _reason(self, what: str, path: str, thing: object) -> None:
        self._note(what, path, qualified_name(thing))
        self._reasons.setdefault((what, qualified_name(thing)), []).append(path)

    def _again(self, value: object) -> bool:
        """Tell whether this object was met before, which is then hashed in its place."""
        if (number := self._numbers.setdefault(id(value), len(self._numbers))) < len(self._alive):
            self._note("again", number)
            return True
        self._alive.append(value)
        return False

    # The pipeline and its parts.

    def pipeline(self, pipe: Any, *, safety_checker: bool) -> None:
        """Hash all attributes of a pipeline, its components among them."""
        self._class(type(pipe), "the pipeline")
        unchecked = frozenset() if safety_checker else frozenset({CHECKER, "feature_extractor"})
        usual = set(inspect.signature(import_string(family_of(pipe).pipeline).__init__).parameters)
        for name in sorted(set(vars(pipe)) - VOLATILE_OF_PIPELINES - VOLATILE - unchecked):
            value = vars(pipe)[name]
            if name == "_internal_dict":
                self._settings(value, without=usual.intersection(vars(pipe)) | {"requires_safety_checker"})
            elif isinstance(value, torch.nn.Module) and name not in usual:
                self._reason("extra component", name, value)
            elif name in usual and not isinstance(value, torch.nn.Module) and value is not None:
                self._note("component", name)
                volatile = VOLATILE_OF_SCHEDULERS if name == "scheduler" else frozenset[str]()
                self._object(value, name, volatile=volatile, what="class of")
            else:
                self._attribute(pipe, name, value, name if name in usual else f"pipe.{name}")
        self._everywhere()

    def _settings(self, config: Any, without: set[str]) -> None:
        """Hash a pipeline's configuration, without the classes of its components, which are hashed themselves."""
        self._class(type(config), "config")
        for name in sorted(set(config) - without):
            if not name.startswith("_"):
                self._note("setting", name)
                self._value(config[name], f"config.{name}")

    def _everywhere(self) -> None:
        """Hash what acts on every pipeline of this process."""
        everywhere = vars(torch.nn.modules.module)
        for name, what in zip(_GLOBAL_HOOKS, _HOOKS.values(), strict=True):
            for hook in everywhere.get(name, {}).values():
                if not is_library_code(hook):
                    self._reason(what, "every module", hook)
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        for name, function in ALL_ATTENTION_FUNCTIONS.items():
            if not is_library_code(function):
                self._reason(f"attention function {name!r} of", "transformers", function)
        for module in sorted({*self._modules, "torch.nn.functional"}):
            for name, value in sorted(vars(sys.modules[module]).items()):
                if callable(value) and not isinstance(value, type) and not is_library_code(value, HELPERS):
                    self._reason("replaced function", f"{module}.{name}", value)

    def module(self, module: torch.nn.Module, path: str) -> None:
        """Hash a network or a part of one."""
        if (inner := compiled_module(module)) is not None:
            # What torch.compile makes of a network draws what the network draws.
            self._hooks(module, path)
            self._compiler(getattr(module, "dynamo_ctx", None), path)
            self.module(inner, path)
            return
        if self._again(module):
            return
        self._hooks(module, path)
        self._class(type(module), path)
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                self._note("tensor", name)
                self._value(tensor, f"{path}.{name}")
        for name, child in module._modules.items():
            self._attribute(module, name, child, f"{path}.{name}")
        moved = OF_OFFLOADING if is_offloaded(module) else frozenset[str]()
        if moved:  # what the forward was before it moved its weights first
            self._attribute(module, "forward", vars(module)["_old_forward"], f"{path}.forward")
        for name in sorted(set(vars(module)) - OF_MODULES - VOLATILE - moved):
            self._attribute(module, name, vars(module)[name], f"{path}.{name}")
        if (call := vars(module).get("_compiled_call_impl")) is not None:
            self._compiled_call(module, call, path)

    def _hooks(self, module: torch.nn.Module, path: str) -> None:
        for name, what in _HOOKS.items():
            for hook in vars(module).get(name, {}).values():
                # transformers installs these when it is first asked for hidden states, and they change nothing.
                if origin(hook) == "transformers.utils.output_capturing" and is_library_code(hook):
                    continue
                self._note(what)
                self._called(hook, what, path)

    def _compiler(self, context: Any, path: str) -> None:
        """Report a compiler of ``torch.compile`` that is the user's own."""
        backend = getattr(context, "callback", None)
        while (inner := next(filter(None, (getattr(backend, name, None) for name in _BACKENDS)), None)) is not None:
            backend = inner
        if backend is not None and not is_library_code(backend):
            self._reason("torch.compile backend of", path, backend)

    def _compiled_call(self, module: torch.nn.Module, call: Any, path: str) -> None:
        """Hash the call that ``Module.compile`` puts into the module."""
        inner = getattr(call, "_torchdynamo_orig_callable", None)
        if getattr(inner, "__self__", None) is not module or not is_library_code(call):
            self._reason("replaced method", f"{path}._compiled_call_impl", call)
        for cell in getattr(call, "__closure__", None) or ():
            if type(cell_content(cell)).__name__ == "OptimizeContext":
                self._compiler(cell_content(cell), path)

    # Values.

    def _attribute(self, owner: Any, name: str, value: Any, path: str) -> None:
        """Hash an attribute of an object; code there takes precedence over its class's."""
        if is_own_method(owner, name, value):
            return
        self._note("attribute", name)
        if isinstance(value, torch.nn.Module) and name != "processor":
            self.module(value, path)
        elif callable(value) and callable(getattr(type(owner), name, None)):
            self._called(value, "replaced method", path)
        elif name == "processor" and hasattr(owner, "set_processor"):
            self._object(value, path.removesuffix(".processor"), what="attention processor of")
        else:
            self._value(value, path)

    def _value(self, value: Any, path: str) -> None:
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes):
            self._note(kind.__name__, repr(value))
        elif kind in (torch.dtype, torch.layout, torch.memory_format):
            self._note(value)
        elif kind is torch.device:
            self._note("device")  # it is not part of a key
        elif isinstance(value, torch.Tensor):
            self._tensor(value, path)
        elif isinstance(value, torch.nn.Module):
            self.module(value, path)
        elif isinstance(value, type):
            self._note("class", qualified_name(value))
            self._class(value, path)
        elif isinstance(value, (list, tuple, set, frozenset, Mapping)):
            self._container(value, path)
        elif isinstance(value, Enum):
            self._note(value.name)
            self._class(kind, path)
        elif isinstance(value, (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)):
            self._called(value, "function", path)
        elif kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tobytes"):
            self._array(value, path)
        else:
            self._object(value, path)

    def _tensor(self, tensor: torch.Tensor, path: str) -> None:
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_meta or tensor.layout != torch.strided:
            self._reason("tensor", path, tensor)
            return
        if self._again(tensor):
            return
        self._note("tensor", tensor.dtype, list(tensor.shape))
        if self._weights:
            self._hash.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())

    def _array(self, array: Any, path: str) -> None:
        if array.dtype.hasobject:
            self._reason("attribute", path, array)
        else:
            self._note("array", array.dtype, array.shape)
            self._hash.update(array.tobytes())

    def _container(self, value: Any, path: str) -> None:
        # Whether two tuples of the same content are one is Python's own affair.
        if not isinstance(value, tuple) and self._again(value):
            return
        self._note(qualified_name(type(value)), len(value))
        self._class(type(value), path)
        if isinstance(value, Mapping):
            for key in sorted(value, key=repr):
                # As in a configuration that was written down: by which version, from where.
                if not (isinstance(key, str) and key in VOLATILE_OF_SETTINGS):
                    self._value(key, path)
                    self._value(value[key], f"{path}.{key}")
        else:
            for each in sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value:
                self._value(each, path)
        # As a configuration of diffusers, whose settings are attributes of it too.
        self._content_of(value, path, VOLATILE_OF_SETTINGS)

    def _called(self, function: Any, what: str, path: str) -> None:
        """Hash a callable, by its name and what it holds."""
        if not is_library_code(function):
            self._reason(what, path, function)
            return
        self._note("function", qualified_name(function))
        if self._again(function):
            return
        if isinstance(function, functools.partial):
            self._value([function.func, function.args, function.keywords], path)
        elif isinstance(function, types.MethodType):
            self._value(function.__self__, path)
        elif isinstance(function, types.FunctionType):
            for cell in function.__closure__ or ():
                self._value(cell_content(cell), path)
        elif isinstance(function, types.BuiltinFunctionType):
            if not isinstance(function.__self__, types.ModuleType | None):
                self._value(function.__self__, path)
        else:
            self._object(function, path, what=what)

    def _object(self, value: Any, path: str, *, volatile: frozenset[str] = frozenset(), what: str = "") -> None:
        """Hash an object, by its class and what it holds."""
        if isinstance(value, torch.nn.Module):
            if not is_library_class(type(value)):
                self._reason(what or "class of", path, value)
            else:
                self.module(value, path)
            return
        kind = type(value)
        self._note("object", qualified_name(kind))
        if not is_library_class(kind):
            self._reason(what or "attribute", path, value)
            return
        if self._again(value):
            return
        self._class(kind, path)
        if kind.__module__.partition(".")[0] == "tokenizers":
            self._tokenizer(value)
        elif isinstance(value, re.Pattern):
            self._note(value.pattern, value.flags)
        elif hasattr(value, "__dict__"):
            self._content_of(value, path, VOLATILE | volatile)
        else:
            self._reason(what or "attribute", path, value)

    def _content_of(self, value: Any, path: str, without: frozenset[str]) -> None:
        """Hash every attribute of the object itself."""
        for name in sorted(set(getattr(value, "__dict__", ())) - without):
            self._attribute(value, name, vars(value)[name], f"{path}.{name}")

    def _tokenizer(self, value: Any) -> None:
        """Hash a tokenizer's own program; each call sets how it pads and cuts."""
        if not hasattr(value, "to_str"):
            self._note(repr(value))
            return
        told = json.loads(value.to_str())
        self._note(json.dumps({**told, "padding": None, "truncation": None}, sort_keys=True))

    def _class(self, kind: type, path: str) -> None:
        """Hash a class, whose code and whose bases' code has to be a library's own."""
        self._note(qualified_name(kind))
        if not is_library_class(kind):
            self._reason("class of", path, kind)
        for each in kind.__mro__[:-1]:
            if each in self._classes or not is_library_class(each):
                continue
            self._classes.add(each)
            if each.__module__.partition(".")[0] in ("diffusers", "transformers"):
                self._modules.add(each.__module__)
            for name, value in vars(each).items():
                if any(not is_library_code(function, HELPERS) for function in code_of(value)):
                    self._reason("replaced method", f"{qualified_name(each)}.{name}", value)


def _reason_text(what: str, name: str, paths: list[str]) -> str:
    """``forward hook on unet.mid_block and 2 more (<sae.Hook>)``."""
    rest = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{what} {paths[0]}{rest} (<{name}>)"
