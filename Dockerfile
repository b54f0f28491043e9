# The operator's image.
#
#   docker build -t batchyard/batchyard:0.1.0 .

# The version of rust-toolchain.toml; that file itself would make rustup fetch components that a
# build does not need.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# cargo auditable writes into the program which crates it is made of, for scanners of images; the other one lists them in a
# file for people.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY xtask xtask
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo auditable build --release --locked --package batchyard --bin batchyard && \
    strip --strip-debug target/release/batchyard && \
    cp target/release/batchyard /batchyard && \
    cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps && \
    mv batchyard_bin.cdx.json /batchyard.cdx.json

# glibc and libgcc, no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /batchyard /usr/local/bin/batchyard
COPY --from=build /batchyard.cdx.json /usr/share/doc/batchyard/batchyard.cdx.json
COPY LICENSE /usr/share/doc/batchyard/LICENSE
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/batchyard"]
CMD ["operator"]
