"""Engines of others that run our model: vLLM, llama.cpp, quantisation."""
