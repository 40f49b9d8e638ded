# The image holds one file: the static binary.
#
#   buildah build -t seedwire .
#       compiles it inside; needs the network
#   buildah build -t seedwire --target prebuilt --build-arg BINARY=PATH CONTEXT
#       takes an already built one, at PATH in CONTEXT; needs nothing (deploy/image.sh does this)

FROM docker.io/library/rust:1-bookworm AS compiled
WORKDIR /src
COPY . .
RUN scripts/static.sh && install target/*-linux-musl/release/seedwire /seedwire

FROM scratch AS prebuilt
ARG BINARY=seedwire
COPY ${BINARY} /seedwire
ENTRYPOINT ["/seedwire"]
CMD ["run", "-c", "/etc/seedwire/config.yaml"]

FROM scratch
COPY --from=compiled /seedwire /seedwire
ENTRYPOINT ["/seedwire"]
CMD ["run", "-c", "/etc/seedwire/config.yaml"]
