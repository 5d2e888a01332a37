FROM debian:buster-slim
COPY greet /usr/bin/
CMD ["greet"]
