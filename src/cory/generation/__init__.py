"""Sampling of answers: in this process, or by a vLLM server."""
