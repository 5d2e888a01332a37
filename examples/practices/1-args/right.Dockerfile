# The commit is an annotation: kedge build --annotation org.opencontainers.image.revision=$(git rev-parse HEAD)
ARG DEBIAN=bookworm-slim
FROM debian:${DEBIAN}
COPY greet /usr/bin/
CMD ["greet"]
