"""What a real device refuses, refused without one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what a real device refuses: tensors of the CPU among others, but single numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if any(tensor.is_meta for tensor in tensors) and not copies:
            for tensor in tensors:
                if not tensor.is_meta and (tensor.dim() > 0 or torch.Tag.pointwise not in func.tags):
                    raise RuntimeError(f"{func} is asked for tensors of two devices")
        return func(*args, **(kwargs or {}))
