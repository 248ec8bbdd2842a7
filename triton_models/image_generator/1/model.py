"""Conditions and seeds in, pictures out, by a conditional VAE or GAN.

CONDITION FP32  [batch, d]           as it was trained on; d is the generator's
SEED      INT64 [batch, 1]           0 or more
KIND      BYTES [batch, 1]           vae or gan
IMAGE     UINT8 [batch, 64, 64, 3]   RGB
LARGE     UINT8 [batch, 256, 256, 3] the same, enlarged
VERSION   BYTES [batch, 1]           `name@hash of the weights`, of the generator that painted the row

`painter.py` holds the generator itself. A row's picture is the same to the last bit whatever else is in its batch.
"""

import os
from pathlib import Path

import numpy as np
import serving
import torch
import triton_python_backend_utils as pb_utils
from painter import KINDS, Painter
from PIL import Image

LARGE = 256


class TritonPythonModel:
    def initialize(self, args):
        given = serving.settings(args)
        torch.set_num_threads(serving.threads(given))
        folder = Path(given.get("model_dir") or Path(os.environ.get("UPWELL_MODEL_DIR", "")) / "image_generator")
        files = {kind: folder.expanduser() / f"{kind}.safetensors" for kind in KINDS}
        self.painters = {kind: Painter(file) for kind, file in files.items() if file.is_file()}
        if not self.painters:
            raise pb_utils.TritonModelException(
                f"No picture generator is in {folder}: `upwell train vae` or `upwell train gan` makes one in minutes, "
                "or name another folder with model_dir in config.pbtxt."
            )
        self.spread = float(given.get("spread") or 1)
        for painter in self.painters.values():
            painter.paint(np.zeros(painter.width, dtype=np.float32), 0, self.spread)

    def execute(self, requests):
        return serving.answer(requests, self._read, self._work)

    def _read(self, request):
        conditions = serving.array(request, "CONDITION")
        seeds = serving.array(request, "SEED").reshape(-1).tolist()
        kinds = [bytes(kind).decode("utf-8", "replace") for kind in serving.array(request, "KIND").reshape(-1)]
        for kind in kinds:
            if kind not in KINDS:
                raise serving.Refused(f"KIND is {kind[:32]!r}: {' or '.join(KINDS)}")
            if kind not in self.painters:
                raise serving.Refused(f"no {kind} has been trained: `upwell train {kind}` makes it")
            if (width := self.painters[kind].width) != conditions.shape[1]:
                raise serving.Refused(f"CONDITION has {conditions.shape[1]} numbers: the {kind} takes {width}")
        if not np.isfinite(conditions).all():
            raise serving.Refused("CONDITION holds values that are not finite numbers")
        if min(seeds) < 0:
            raise serving.Refused(f"SEED is {min(seeds)}: 0 or more")
        return list(zip(kinds, conditions, seeds, strict=True))

    def _work(self, rows):
        images = np.stack([self.painters[kind].paint(condition, seed, self.spread) for kind, condition, seed in rows])
        large = [Image.fromarray(image).resize((LARGE, LARGE), Image.Resampling.LANCZOS) for image in images]
        versions = [[self.painters[kind].version.encode()] for kind, _, _ in rows]
        return {"IMAGE": images, "LARGE": np.stack(large), "VERSION": np.array(versions, dtype=np.object_)}
