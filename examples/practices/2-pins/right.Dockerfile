# kedge lock writes right.Dockerfile.lock beside this file: commit it.
FROM debian:bookworm-slim
COPY greet /usr/bin/
CMD ["greet"]
