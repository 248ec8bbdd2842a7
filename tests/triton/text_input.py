"""A tiny language model of transformers behind the tensors of vLLM's backend, or of TensorRT-LLM's ensemble.

It takes and gives what those do, their habits included: vLLM's answers as a stream, and both give the prompt back unless
told not to.
"""

import json
from threading import Thread

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from transformers import AutoModelForCausalLM, AutoTokenizer


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        given = {name: value["string_value"] for name, value in config["parameters"].items()}
        self.decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)
        self.tokenizer = AutoTokenizer.from_pretrained(given["model_dir"])
        self.model = AutoModelForCausalLM.from_pretrained(given["model_dir"], dtype=torch.float32).eval()

    def execute(self, requests):
        if not self.decoupled:
            return [self._answer(request) for request in requests]
        for request in requests:
            Thread(target=self._send, args=(request.get_response_sender(), self._answer(request))).start()
        return None

    def _send(self, sender, response):
        # Ended by a message of its own, as vLLM's newer releases do.
        sender.send(response)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answer(self, request):
        found = {tensor.name(): tensor.as_numpy().reshape(-1) for tensor in request.inputs()}
        prompt = found["text_input"][0].decode()
        if "refuse this" in prompt:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("the prompt is too long for this model"))
        if "sampling_parameters" in found:
            sampling = json.loads(found["sampling_parameters"][0])
            stop, most, seed = sampling["stop"], sampling["max_tokens"], sampling["seed"]
            temperature = sampling["temperature"]
        else:
            stop = [word.decode() for word in found["stop_words"] if word]
            most, seed = int(found["max_tokens"][0]), int(found["seed"][0])
            temperature = float(found["temperature"][0]) if "temperature" in found else 0
        ids = self.tokenizer(prompt, return_tensors="pt")["input_ids"]
        how = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        torch.manual_seed(seed)
        with torch.inference_mode():
            written = self.model.generate(ids, max_new_tokens=most, **how)[0, ids.shape[1] :]
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        for word in stop:
            text = text.partition(word)[0]
        if not ("exclude_input_in_output" in found and found["exclude_input_in_output"][0]):
            text = prompt + text
        outputs = [pb_utils.Tensor("text_output", np.array([text.encode()], dtype=np.object_))]
        if "return_num_output_tokens" in found:
            outputs.append(pb_utils.Tensor("num_output_tokens", np.array([len(written)], dtype=np.uint32)))
        return pb_utils.InferenceResponse(outputs)
