# The images of the mesh, one target each; compose.yaml and the files in deploy/ say how they run:
#   orchestrator            the conversations; no models
#   embedded                stt, tts and llm with small models on a CPU
#   kyutai                  stt and tts with Kyutai's models on a GPU
#   vllm                    llm with vLLM on a GPU
#   page                    the page and the Realtime WebSocket
#   all, built by default   everything on a CPU in one container, weights included; a Hugging Face Space builds it
ARG BASE=python:3.12.12-slim-bookworm

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/unmute/bin:$PATH
WORKDIR /src
# hadolint ignore=DL3013,DL3042
RUN --mount=type=cache,target=/root/.cache/pip python -m venv /opt/unmute \
 && pip install --upgrade 'pip>=25.1'
# What the code needs changes less often than the code: those layers stay.
COPY pyproject.toml deploy/requirements.py ./

FROM build AS wheel
COPY . .
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /wheels .

FROM build AS build-orchestrator
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip python requirements.py mcp otel > wanted.txt \
 && pip install --requirement wanted.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

FROM build AS build-embedded
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip python requirements.py embedded openai otel > wanted.txt \
 && pip install --requirement wanted.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

FROM build AS build-page
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip python requirements.py ui otel > wanted.txt \
 && pip install --requirement wanted.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

FROM build AS build-all
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip python requirements.py embedded openai ui otel > wanted.txt \
 && pip install --requirement wanted.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

# moshi asks for older packages than the rest has, but runs with these: last, and without its dependencies.
FROM build AS build-kyutai
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip python requirements.py kyutai otel > wanted.txt \
 && pip install --requirement wanted.txt \
 && pip install --no-deps moshi==0.2.13
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

FROM build AS build-vllm
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip python requirements.py vllm otel > wanted.txt \
 && pip install --requirement wanted.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl

# The driver of a GPU comes from the host, CUDA's libraries come with torch: no image needs another base.
FROM ${BASE} AS runtime
# What is fetched or compiled at run time lies in one folder, for a volume; all else may be read-only.
RUN useradd --create-home --uid 1000 unmute \
 && install --directory --owner=unmute --group=unmute /var/cache/unmute
ENV PATH=/opt/unmute/bin:$PATH \
    HOME=/home/unmute \
    XDG_CACHE_HOME=/var/cache/unmute \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1
WORKDIR /home/unmute

FROM runtime AS orchestrator
COPY --from=build-orchestrator /opt/unmute /opt/unmute
USER 1000:1000
EXPOSE 50050
HEALTHCHECK --start-period=30s --interval=20s --timeout=15s CMD ["unmute", "health", "--only", "orchestrator"]
CMD ["unmute", "orchestrator", "--host", "0.0.0.0"]

FROM runtime AS page
COPY --from=build-page /opt/unmute /opt/unmute
USER 1000:1000
ENV GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
HEALTHCHECK --start-period=60s --interval=20s --timeout=15s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=3)"]
CMD ["unmute", "ui", "--host", "0.0.0.0"]

# llama.cpp links libgomp, and its wheel does not bring it.
FROM runtime AS runtime-embedded
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*

# Which of the three services a container is, its command says, and its health check with it.
FROM runtime-embedded AS embedded
COPY --from=build-embedded /opt/unmute /opt/unmute
USER 1000:1000
EXPOSE 50051 50052 50053
CMD ["unmute", "stt", "--host", "0.0.0.0"]

# Both compile kernels when they warm up, which takes a C compiler.
FROM runtime-embedded AS runtime-gpu
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV TRITON_CACHE_DIR=/var/cache/unmute/triton \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/unmute/inductor

FROM runtime-gpu AS kyutai
COPY --from=build-kyutai /opt/unmute /opt/unmute
USER 1000:1000
EXPOSE 50051 50052
CMD ["unmute", "stt", "--engine", "kyutai", "--host", "0.0.0.0"]

FROM runtime-gpu AS vllm
COPY --from=build-vllm /opt/unmute /opt/unmute
USER 1000:1000
EXPOSE 50053
HEALTHCHECK --start-period=900s --interval=20s --timeout=15s CMD ["unmute", "health", "--only", "llm"]
CMD ["unmute", "llm", "--engine", "vllm", "--host", "0.0.0.0"]

FROM runtime-embedded AS all
COPY --from=build-all /opt/unmute /opt/unmute
USER 1000:1000
# Fetched now, so that it starts at once and needs no network.
RUN unmute models --fetch
COPY deploy/space/app.py ./
ENV GRADIO_ANALYTICS_ENABLED=False
EXPOSE 7860
HEALTHCHECK --start-period=120s --interval=30s --timeout=15s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=3)"]
CMD ["python", "app.py"]
