"""Texts in, how likely each is profane, and whether a word list knows one of its words, out.

TEXT        BYTES [batch, 1]  UTF-8
PROBABILITY FP32  [batch, 1]  0 to 1, of alt-profanity-check's linear classifier over words and pairs of words
FLAG        BOOL  [batch, 1]  of better-profanity's word list, which also sees through replaced letters
VERSION     BYTES [batch, 1]  names and releases of both packages

The classifier exists only as a pickle, which runs code when it is loaded. It comes hashed with its package, and is
loaded in this process alone: see docs/security.md.
"""

from importlib import metadata

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):  # noqa: ARG002 (Triton's interface)
        try:
            import profanity_check
            from better_profanity import profanity
        except ImportError as error:
            raise pb_utils.TritonModelException(
                f"{error}: the packages alt-profanity-check and better-profanity are needed; install upwell[models]."
            ) from error
        profanity.load_censor_words()
        self.probability, self.flag = profanity_check.predict_prob, profanity.contains_profanity
        packages = ("alt-profanity-check", "better-profanity")
        self.version = "+".join(f"{name}@{metadata.version(name)}" for name in packages).encode()
        self._judge(["warm up"])

    def execute(self, requests):
        responses = [None] * len(requests)
        texts, owners = [], []
        for i, request in enumerate(requests):
            rows = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
            try:
                decoded = [bytes(row).decode("utf-8") for row in rows]
            except UnicodeDecodeError as error:
                problem = pb_utils.TritonError(f"TEXT is not UTF-8: {error}", pb_utils.TritonError.INVALID_ARG)
                responses[i] = pb_utils.InferenceResponse(error=problem)
                continue
            owners.append((i, len(texts), len(decoded)))
            texts += decoded
        if texts:
            probabilities, flags = self._judge(texts)
            for i, start, count in owners:
                version = np.full((count, 1), self.version, dtype=np.object_)
                responses[i] = pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("PROBABILITY", probabilities[start : start + count]),
                        pb_utils.Tensor("FLAG", flags[start : start + count]),
                        pb_utils.Tensor("VERSION", version),
                    ]
                )
        return responses

    def _judge(self, texts):
        """Returns float32 [n, 1] and bool [n, 1]."""
        probabilities = np.asarray(self.probability(texts), dtype=np.float32).reshape(-1, 1)
        flags = np.array([self.flag(text) for text in texts], dtype=np.bool_).reshape(-1, 1)
        return probabilities, flags
