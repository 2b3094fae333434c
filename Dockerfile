# Two images of one static binary each, for x86-64 and arm64; `make release` comes first.
#   docker build --target tracker -t enjambre-tracker .
#   docker build --target peer -t enjambre-peer .
FROM scratch AS amd64
COPY dist/x86_64-unknown-linux-musl/ /
FROM scratch AS arm64
COPY dist/aarch64-unknown-linux-musl/ /

FROM ${TARGETARCH} AS binaries

FROM scratch AS tracker
COPY --from=binaries /tracker /tracker
USER 65532:65532
EXPOSE 50051
ENTRYPOINT ["/tracker"]

FROM scratch AS peer
COPY --from=binaries /peer /peer
USER 65532:65532
# Made for that user; what is mounted there has to be writable for it.
WORKDIR /share
EXPOSE 5000
ENTRYPOINT ["/peer"]
CMD ["peer_1", "5000", "/share"]
