"""Settings: sampling on a vLLM server."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Sampling on a vLLM server."""

    vllm_server_base_url: str | None = setting(None, resume_may_change=True, read_from_run=False)
    """Address of a running vLLM server that samples the answers: http://HOST:PORT. Needs
    `use_peft`. None: this process samples them."""
    vllm_server_timeout: float = setting(600.0, POSITIVE, affects_result=False)
    """Seconds to wait for the server to start, to come back when it has stopped answering, and to
    answer one request, its time in the queue included. Then the run saves and stops; `resume`
    continues it."""
    vllm_adapter_dir: str | None = setting(None, affects_result=False)
    """Directory from which the server loads the adapters. It must have the same path for the server
    and for this process. None: `vllm` in `output_dir`."""
    vllm_importance_sampling_clip_max: float | None = setting(2.0, POSITIVE)
    """Each token's policy loss is weighted by its probability under the trainer divided by that
    under the server, which sampled it. This number is the largest weight. None: no weights."""
