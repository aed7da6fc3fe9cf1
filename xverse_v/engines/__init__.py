"""Engines of others that run our model: vLLM and llama.cpp."""
