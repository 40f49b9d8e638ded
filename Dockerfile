# The image holds one file: the static binary.
#
#   buildah build -t seedwire .                      builds it inside, needs the network
#   buildah build -t seedwire --build-arg SOURCE=prebuilt --build-arg BINARY=PATH .
#                                                    takes an already built one, needs nothing
#
# BINARY is relative to the build context.
ARG SOURCE=compiled

FROM docker.io/library/rust:1-bookworm AS compiled
WORKDIR /src
COPY . .
RUN scripts/static.sh && install target/*-linux-musl/release/seedwire /seedwire

FROM scratch AS prebuilt
ARG BINARY=seedwire
COPY ${BINARY} /seedwire

FROM ${SOURCE} AS binary

FROM scratch
LABEL org.opencontainers.image.title="seedwire" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binary /seedwire /seedwire
ENTRYPOINT ["/seedwire"]
CMD ["run", "-c", "/etc/seedwire/seedwire.yaml"]
