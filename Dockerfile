# Build: docker build --build-arg PHONE_GATEWAY_COMMIT="$(git rev-parse HEAD)" -t phone-gateway .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build

# The dependencies are a layer of their own, made from the manifest and empty sources: it is built again only
# when the manifest changes. Cargo wants every target that the manifest names to exist.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/api benches \
    && for target in src/main tests/api/main benches/normalise benches/phone_texts; do echo 'fn main() {}' > $target.rs; done \
    && touch src/lib.rs \
    && cargo build --release --locked

COPY src src
# Shown by /version. Asked for this late, so that a new commit leaves the layers above as they are.
ARG PHONE_GATEWAY_COMMIT
# The files carry the times of their checkout, which may be older than the empty ones were. An empty commit is
# none.
RUN touch src/main.rs src/lib.rs \
    && if [ -z "$PHONE_GATEWAY_COMMIT" ]; then unset PHONE_GATEWAY_COMMIT; fi \
    && cargo build --release --locked

FROM debian:bookworm-slim
ARG PHONE_GATEWAY_VERSION=0.1.0
ARG PHONE_GATEWAY_COMMIT
LABEL org.opencontainers.image.title="phone-gateway" \
      org.opencontainers.image.description="One REST contract in front of vendors that find or validate phone numbers in bulk" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$PHONE_GATEWAY_VERSION" \
      org.opencontainers.image.revision="$PHONE_GATEWAY_COMMIT"
# The authorities that vouch for the vendors' servers: the gateway reads the system's list.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/phone-gateway /usr/local/bin/phone-gateway
COPY --chmod=755 deploy/healthcheck.sh /usr/local/bin/healthcheck

# The store's folder, where `store.url` is unless it is set. A volume that is mounted here for the first time belongs to
# the same user.
RUN install -d -o 10001 -g 10001 /var/lib/phone-gateway
WORKDIR /var/lib/phone-gateway
VOLUME /var/lib/phone-gateway

# Loopback would be out of reach for the ports of the container. `serve` asks for keys; `serve --sandbox` has nothing to
# protect.
ENV PHONE_GATEWAY__SERVER__LISTEN=0.0.0.0:8080 \
    PHONE_GATEWAY_SANDBOX_OPEN=true

# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["healthcheck", "8080", "/readyz"]
ENTRYPOINT ["phone-gateway"]
CMD ["serve"]
