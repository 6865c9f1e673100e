"""Use of finished trainings: predict, encode, export to ONNX, promote in the model registry."""

from aepretrain.serving.exchange import export_onnx
from aepretrain.serving.pictures import doubts_about, prepare, read_picture
from aepretrain.serving.prediction import (
    apply,
    check_pictures,
    class_names,
    encode,
    load_classifier,
    load_encoder,
    most_probable,
    pictures_in,
    read_pictures,
    write_codes,
)
from aepretrain.serving.promotion import promote
from aepretrain.serving.selection import best, choose_classifier, choose_encoder

__all__ = [
    "apply",
    "best",
    "check_pictures",
    "choose_classifier",
    "choose_encoder",
    "class_names",
    "doubts_about",
    "encode",
    "export_onnx",
    "load_classifier",
    "load_encoder",
    "most_probable",
    "pictures_in",
    "prepare",
    "promote",
    "read_picture",
    "read_pictures",
    "write_codes",
]
