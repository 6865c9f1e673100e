"""Export of a classifier to ONNX.

Shapes: N images, C channels, H rows, W columns, K classes.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aepretrain.config import Shape
from aepretrain.errors import Failure
from aepretrain.files import atomic_write

TOLERANCE = 1e-5
"""Largest difference of probabilities. Both are float32, summed in different orders."""

CHECKED_SIZES = (1, 2, 7, 64)
"""Batch sizes with which the two are compared; the file fixes none."""

Floats = NDArray[np.float32]


def export_onnx(module: nn.Module, shape: Shape, classes: Sequence[str], target: Path) -> float:
    """Write a classifier as ONNX: ``images`` [N, C, H, W] in [0, 1] → ``probabilities`` [N, K].

    The names of the classes are its metadata ``classes``, a list in JSON. The file is written after ONNX Runtime has
    given the same probabilities for random images. Returns their largest difference. Raises `Failure` where the extra
    ``onnx`` is not installed, the network cannot be exported, the probabilities differ, or the file cannot be written.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # PyTorch's exporter needs it, and would say so in several lines
    except ImportError as error:
        raise Failure(
            f"ONNX needs {error.name}, which is not installed: it comes with the extra named onnx "
            "(pip install onnx onnxscript onnxruntime)"
        ) from None
    content = _exported(module, shape, classes)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    difference = max(_difference(module, session, shape, num) for num in CHECKED_SIZES)
    if not difference <= TOLERANCE:
        raise Failure(
            f"ONNX Runtime's probabilities differ from PyTorch's by up to {difference:.2g}; nothing was written"
        )
    with atomic_write(target) as partial:
        partial.write_bytes(content)
    return difference


def _exported(module: nn.Module, shape: Shape, classes: Sequence[str]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                module,
                (torch.rand(2, *shape.image),),  # with one image, the exporter would fix their number
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001  # the exporter documents no class for what it cannot export
        raise Failure(f"the network cannot be exported to ONNX: {' '.join(str(error).split())[:200]}") from None
    assert program is not None, "it is None only where the exporter is told to write a file itself"
    model = program.model_proto
    model.metadata_props.add(key="classes", value=json.dumps(list(classes)))
    content: bytes = model.SerializeToString()
    return content


def _difference(module: nn.Module, session: Any, shape: Shape, num: int) -> float:
    images_NCHW = torch.rand(num, *shape.image, generator=torch.Generator().manual_seed(num))
    (probs_NK,) = session.run(["probabilities"], {"images": images_NCHW.numpy()})
    with torch.inference_mode():
        return float(np.abs(probs_NK - module(images_NCHW).numpy()).max())
