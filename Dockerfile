# geosegsr in a container. Two targets: cpu, and cuda for NVIDIA GPUs.
#
#   docker build --target cpu  -t geosegsr:cpu  --build-arg TORCH_CPU_INDEX=ADDRESS .
#   docker build --target cuda -t geosegsr:cuda .
#
# Add --build-arg EXTRAS=report for an image that neither trains nor joins a cluster.
# ADDRESS is PyTorch's own CPU wheel index; see pytorch.org. The default torch wheels bring their CUDA libraries.

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm AS base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
ENV PYTHONUNBUFFERED=1
WORKDIR /data
ENTRYPOINT ["geosegsr"]
CMD ["--help"]

FROM base AS cuda
ARG EXTRAS=train,clip,cluster,report
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/*.whl)[$EXTRAS]"
USER 12345

FROM base AS cpu
ARG TORCH_CPU_INDEX
ARG EXTRAS=train,clip,cluster,report
RUN test -n "$TORCH_CPU_INDEX" \
    && pip install --no-cache-dir --index-url "$TORCH_CPU_INDEX" "torch>=2.9" "torchvision>=0.24"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/*.whl)[$EXTRAS]"
USER 12345
