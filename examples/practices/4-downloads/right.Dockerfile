# What ADD fetches is in the lockfile. kedge lock --downloads records what apt-get fetches.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
ADD --chmod=755 https://example.com/releases/download/v1.4.0/tool /usr/bin/tool
ADD --unpack=true https://example.com/data-1.4.tar.gz /opt/
ADD https://example.com/greet.git#v1.4.0 /opt/greet
CMD ["/opt/greet/greet"]
