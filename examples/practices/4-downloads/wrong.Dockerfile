FROM debian:bookworm-slim
RUN apt-get update && apt-get -y upgrade && apt-get install -y --no-install-recommends ca-certificates curl git
RUN curl -fsSL https://example.com/install.sh | sh
RUN curl -fsSLo /usr/bin/tool https://example.com/releases/latest/download/tool && chmod +x /usr/bin/tool
RUN curl -fsSL https://example.com/data-1.4.tar.gz | tar -xz -C /opt
RUN git clone https://example.com/greet.git /opt/greet
CMD ["/opt/greet/greet"]
