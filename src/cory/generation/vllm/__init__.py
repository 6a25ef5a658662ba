"""Answers from a vLLM server over HTTP: the second `Sampler`. docs/how-to/vllm.md is its manual.

Token ids go in and token ids come out, so that the two environments share nothing but the model's
files and the adapters'. vLLM itself is never imported.
"""
