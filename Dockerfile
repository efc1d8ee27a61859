# The images of Tidegate: `gateway` (the server, and the operator's CLI in the same binary) and `agent`.
#
#   docker build --target gateway -t tidegate .
#   docker build --target agent -t tidegate-agent .
#
# Needs BuildKit (the default of Docker 23 and later; DOCKER_BUILDKIT=1 before that). Where no registry can be reached,
# `make image` gives this same file a base and binaries made on this machine: see ci/image.

# Any base with glibc 2.36 or later, libgcc and CA certificates will do. Nothing here needs a shell.
ARG BASE=gcr.io/distroless/cc-debian12:nonroot
# Where the binaries come from: the stage `builder` below, or an image that has /out.
ARG BINARIES=builder

FROM rust:1-bookworm AS builder
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gateway --package edge-agent \
    && mkdir -p /out/data \
    && install --strip -t /out target/release/tidegate target/release/tidegate-agent

FROM ${BINARIES} AS binaries

FROM ${BASE} AS gateway
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="Gateway for machines that only dial out: reverse SSH tunnels on demand" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=binaries /out/tidegate /usr/bin/tidegate
# A volume takes its owner from the folder that it covers.
COPY --from=binaries --chown=65532:65532 /out/data /var/lib/tidegate
ENV TIDEGATE_DATA_DIR=/var/lib/tidegate
USER 65532:65532
VOLUME /var/lib/tidegate
EXPOSE 9000 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/tidegate", "healthcheck"]
ENTRYPOINT ["/usr/bin/tidegate"]
CMD ["serve"]

# The agent exposes a Docker engine through its socket, which belongs to a group that only the host knows:
# docker run --group-add "$(stat -c %g /var/run/docker.sock)" -v /var/run/docker.sock:/var/run/docker.sock ...
FROM ${BASE} AS agent
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tidegate-agent" \
      org.opencontainers.image.description="Agent of Tidegate: dials out, and opens a tunnel when it is needed" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=binaries /out/tidegate-agent /usr/bin/tidegate-agent
COPY --from=binaries --chown=65532:65532 /out/data /var/lib/tidegate-agent
ENV TIDEGATE_AGENT_DATA_DIR=/var/lib/tidegate-agent
USER 65532:65532
VOLUME /var/lib/tidegate-agent
# Healthy while the gateway answers it.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["/usr/bin/tidegate-agent", "ready"]
ENTRYPOINT ["/usr/bin/tidegate-agent"]
