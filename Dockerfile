# The image of dripfeed: one static binary in an otherwise empty root. No shell, no package, nothing to patch.
#
#     docker build -t dripfeed .
#     docker run --rm dripfeed demo --exit
#
# It needs one base image and crates.io. Dependencies are a layer of their own, which only Cargo.toml and Cargo.lock
# change: unlike a cache mount, a layer survives on builders that begin empty, and every builder knows it.
#
# The binary is linked statically with Debian's own C library. A musl build would need a target that rustup fetches from
# elsewhere, and would replace the allocator that the README's figures were taken with. What static glibc is known for,
# name lookups that need shared libraries, is over for `/etc/hosts` and DNS since glibc 2.34, and a pod needs no more.
# The roots of TLS are compiled in.

ARG RUST=1.95
FROM docker.io/library/rust:${RUST}-slim-bookworm AS build
WORKDIR /build
# Only for what is linked into the binary: with --target they leave build scripts and macros alone, which cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"

COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --profile dist --locked --target "$(rustc -vV | sed -n 's/^host: //p')"

COPY schema.sql ./
COPY static static
COPY docs docs
COPY src src
# Cargo goes by times, and the sources may be older than the stand-ins that the layer above was built with.
RUN touch src/main.rs src/lib.rs \
    && cargo build --profile dist --locked --target "$(rustc -vV | sed -n 's/^host: //p')"

# The root of the image. What the user may write is his data folder, and nothing else.
RUN mkdir -p root/etc root/usr/local/bin data \
    && cp target/*/dist/dripfeed root/usr/local/bin/dripfeed \
    && echo 'dripfeed:x:65532:65532:dripfeed:/data:/sbin/nologin' > root/etc/passwd \
    && echo 'dripfeed:x:65532:' > root/etc/group

# What the binary is made of (CycloneDX), beside each release: docker build --target sbom --output . .
FROM build AS bill
RUN RUSTFLAGS= cargo install --locked --version 0.5.9 cargo-cyclonedx \
    && cargo cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename dripfeed.cdx

FROM scratch AS sbom
COPY --from=bill /build/dripfeed.cdx.json /

FROM scratch AS image
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dripfeed" \
      org.opencontainers.image.description="Feeds the rows of big CSV files through rate-limited APIs: nothing lost, nothing twice, never too fast" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/root/ /
COPY --from=build --chown=65532:65532 /build/data/ /data/

ENV PATH=/usr/local/bin
ENV DRIPFEED_CONFIG=/etc/dripfeed/dripfeed.toml
# Temporary files, SQLite's too, go where there is room for them and where they are watched; the root may be read-only.
ENV TMPDIR=/data
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["dripfeed", "healthcheck"]
ENTRYPOINT ["dripfeed"]
CMD ["serve"]
