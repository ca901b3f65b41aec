# The image contains only the program: no shell, no package manager, no embedded stores. The program writes no files, so
# the root file system can be read-only. It runs as user 65532, which has no name on the host.

FROM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=""
ARG COMMIT=""
ARG DATE=""
ENV CGO_ENABLED=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -tags production -trimpath -buildvcs=false \
    -ldflags "-s -w -X tradestore/internal/telemetry.version=${VERSION} -X tradestore/internal/telemetry.commit=${COMMIT} -X tradestore/internal/telemetry.date=${DATE}" \
    -o /out/tradestore .
RUN echo 'tradestore:x:65532:65532:tradestore:/:/nologin' > /out/passwd

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/passwd /etc/passwd
COPY --from=build /out/tradestore /tradestore
USER 65532:65532
# 8000: API of the server. 8001: /livez, /readyz and /metrics of the worker. Both listen on loopback by default.
# TRADESTORE_LISTEN changes the address; the health check reads the same variable.
EXPOSE 8000 8001
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 CMD ["/tradestore", "healthcheck"]
ENTRYPOINT ["/tradestore"]
CMD ["--help"]
