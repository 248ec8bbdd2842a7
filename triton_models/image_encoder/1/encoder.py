"""Pictures in, unit-length embeddings, a place in the texts' space and class names out: the encoder without Triton.

The demo's folder (`model.onnx`, `labels/`) holds EfficientNet-Lite0; any Hugging Face vision encoder or CLIP-like folder
can stand in. Every picture passes the model alone, so its numbers are the same to the last bit whatever else is in its
batch; on a CPU that is also the fastest.
"""

import numpy as np
from weights import folder_of, onnx_session, pretrained, read_json, read_model, version_of

VARIANTS = ("fp32", "bf16", "fp16")
TOP = 5
"""Names that are told."""
MIXED = 10
"""Classes whose names make up the joint embedding."""


class Encoder:
    """An image encoder in memory.

    model_dir: folder or hub name; empty: the demo's. device: of torch, and variant, of VARIANTS: where the model is a
    Hugging Face one; the ONNX graph is in full precision, on the CPU.
    """

    def __init__(self, model_dir="", threads=1, device="cpu", variant="fp32"):
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}: {', '.join(VARIANTS)} are possible")
        folder = folder_of(model_dir, "image_encoder")
        if (folder / "model.onnx").is_file():
            if variant != "fp32":
                raise ValueError(f"variant is {variant!r}, but {folder} holds an ONNX graph: leave it at fp32")
            self._model = _Onnx(folder, threads)
        else:
            self._model = _Torch(folder, threads, device, variant)
        self.version = version_of(folder, "" if variant == "fp32" else variant)

    def embed(self, images):
        """images: list of n > 0 uint8 [height, width, 3], RGB. Returns a dict of arrays with n rows.

        EMBEDDING float32 [n, d], unit length; JOINT float32 [n, j], unit length, j = 0 where the model shares no space
        with texts; LABELS object [n, k] of bytes and PROBABILITIES float32 [n, k], likeliest first, k = 0 without names.
        """
        rows = [self._model.one(image) for image in images]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class _Onnx:
    """EfficientNet-Lite0, with ConSE (Norouzi et al. 2014) for the joint space.

    The joint embedding is the mean of the sentence embeddings of the likeliest classes' names, weighted by probability.
    """

    def __init__(self, folder, threads):
        from safetensors.numpy import load_file

        self._session = onnx_session(folder / "model.onnx", threads)
        self._names = np.array(
            [name.encode() for name in read_json(folder / "labels" / "names.json")], dtype=np.object_
        )
        self._meanings = load_file(folder / "labels" / "embeddings.safetensors")["embeddings"]

    def one(self, image):
        features, logits = (found[0] for found in self._session.run(["features", "logits"], {"pixels": image[None]}))
        probabilities = _softmax(logits)
        likeliest = np.argsort(-probabilities, kind="stable")[:MIXED]
        joint = probabilities[likeliest] @ self._meanings[likeliest]
        return {
            "EMBEDDING": _unit(features), "JOINT": _unit(joint),
            "LABELS": self._names[likeliest[:TOP]], "PROBABILITIES": probabilities[likeliest[:TOP]],
        }  # fmt: skip


class _Torch:
    """Any vision model of Hugging Face: CLIP-like ones have a joint space, classifiers have names."""

    def __init__(self, folder, threads, device, variant):
        import torch
        from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

        # The name in `transformers` itself asks for torchvision, which Pillow's backend does without.
        from transformers.models.auto.image_processing_auto import AutoImageProcessor
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[variant]
        self._processor = pretrained(AutoImageProcessor, folder, backend="pil")
        config = pretrained(AutoConfig, folder)
        classifier = any("ForImageClassification" in name for name in config.architectures or ())
        kind = AutoModelForImageClassification if classifier else AutoModel
        found, self._pools = read_model(kind, folder, dtype=self._dtype)
        self._projects = hasattr(found, "get_image_features")
        if self._projects:
            found.text_model = None  # the other tower is the text encoder's
        self._model = found.to(device)
        self._names = config.id2label if classifier else {}

    def one(self, image):
        torch = self._torch
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"].to(self._device, self._dtype)
        joint, labels, probabilities = np.empty(0, np.float32), np.empty(0, np.object_), np.empty(0, np.float32)
        with torch.inference_mode():
            if self._projects:
                embedding = _pooled(self._model.vision_model(pixel_values=pixels))
                # The pooled output of older releases is the tensor itself.
                projected = self._model.get_image_features(pixel_values=pixels)
                joint = _unit(_numbers(getattr(projected, "pooler_output", projected)))
            elif self._names:
                found = self._model(pixel_values=pixels, output_hidden_states=True)
                last = found.hidden_states[-1]
                # [1, tokens, d] of a transformer, [1, d, height, width] of a convolutional network.
                embedding = last[:, 0] if last.ndim == 3 else last.mean((2, 3))
                chances = _softmax(_numbers(found.logits))
                likeliest = np.argsort(-chances, kind="stable")[:TOP]
                labels = np.array([self._names[int(i)].encode() for i in likeliest], dtype=np.object_)
                probabilities = chances[likeliest]
            else:
                embedding = _pooled(self._model(pixel_values=pixels), self._pools)
        return {
            "EMBEDDING": _unit(_numbers(embedding)), "JOINT": joint, "LABELS": labels, "PROBABILITIES": probabilities,
        }  # fmt: skip


def _pooled(output, trained=True):
    """The model's own summary, else its first token: also where the summary's weights are missing."""
    pooled = getattr(output, "pooler_output", None) if trained else None
    return output.last_hidden_state[:, 0] if pooled is None else pooled


def _numbers(tensor):
    """The one row of a tensor as float32 [d]."""
    return tensor.float().cpu().numpy().reshape(-1)


def _unit(vector):
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
