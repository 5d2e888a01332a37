ARG DEBIAN
FROM debian:${DEBIAN}
ARG BUILD_DATE
ARG GIT_COMMIT
LABEL org.opencontainers.image.created=$BUILD_DATE
LABEL org.opencontainers.image.revision=$GIT_COMMIT
COPY greet /usr/bin/
CMD ["greet"]
