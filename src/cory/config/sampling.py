"""Settings: who draws the answers: this process, or a vLLM server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Answers from a vLLM server."""

    vllm_server_base_url: str | None = None
    """Let a running vLLM server draw the answers: http://HOST:PORT. Needs adapters (`use_peft`).
    None: this process draws them."""
    vllm_server_timeout: float = 240.0
    """Seconds to wait for that server to come up, or to come back when it has stopped answering;
    then the run stops, and `resume` goes on."""
    vllm_request_timeout: float = 600.0
    """Seconds that one answer may take, its time in the server's queue included."""
    vllm_adapter_dir: str | None = None
    """Directory in which the server finds the adapters, under the same path as this process. None:
    `vllm` in `output_dir`."""
    vllm_importance_sampling_correction: bool = True
    """Weight each token's policy loss by how much likelier it is to the trainer's own computation
    than to the server's, which sampled it."""
    vllm_importance_sampling_clip_max: float = 2.0
    """Where those weights are cut off."""
