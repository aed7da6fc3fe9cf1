# XVERSE-V in a container: `xverse-v serve` unless another verb is named.
#
#   docker build -t xverse-v .
#   docker run --rm xverse-v ask ...                 any verb
#   docker run --rm --gpus all ... xverse-v serve    on a GPU
#
# The plain build takes PyTorch as pip finds it, which runs on CUDA and on the CPU. For machines without a GPU there are
# builds of PyTorch that are some gigabytes smaller, on an index of their own (its address is on PyTorch's install
# page): --build-arg TORCH_INDEX=https://...
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ARG TORCH_INDEX=
ARG EXTRAS=serve,demo,pdf

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin xverse

WORKDIR /opt/xverse-v
# PyTorch first and alone: the largest layer, and it stays when only our own files change. Of an index of its own nothing
# else is taken; what it needs comes with the rest.
COPY constraints.txt ./
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY xverse_v ./xverse_v
RUN pip install --constraint constraints.txt ".[${EXTRAS}]"

# Nothing is downloaded while it runs, nothing is reported, and everything it writes goes to /tmp.
ENV HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    HF_HOME=/tmp/huggingface \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_TEMP_DIR=/tmp/gradio \
    MPLCONFIGDIR=/tmp/matplotlib

USER 10001
WORKDIR /home/xverse
EXPOSE 8000

# /health answers 503 while the model is loading; the large one takes minutes to do so.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

# Beyond loopback the server does not start without keys: mount a file with one key a line.
ENTRYPOINT ["xverse-v"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--api-key-file", "/run/secrets/api_keys"]
