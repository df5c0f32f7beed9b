"""Runs exported models: each argument is a folder with model.onnx, model.safetensors, model.py and images.bin.

Prints [{"pytorch": [probabilities], "onnx": [probabilities]}, ...] as JSON.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch

torch.set_num_threads(1)


def run(folder):
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    [images_input] = session.get_inputs()
    images = numpy.fromfile(folder / "images.bin", numpy.uint8).reshape(-1, *images_input.shape[1:])
    [by_onnx] = session.run(["probabilities"], {"images": images})

    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # load() is strict.
    by_pytorch = module.predict(module.load(), torch.from_numpy(images))
    assert len(module.CLASSES) == by_pytorch.shape[1]
    names = json.loads(session.get_modelmeta().custom_metadata_map["classNames"])
    assert names == module.CLASSES, (names, module.CLASSES)
    return {"pytorch": by_pytorch.flatten().tolist(), "onnx": by_onnx.flatten().tolist()}


print(json.dumps([run(Path(folder)) for folder in sys.argv[1:]]))
