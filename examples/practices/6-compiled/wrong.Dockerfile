FROM debian:bookworm-slim
COPY greet.jar /usr/share/greet/
COPY greet.sh /usr/bin/greet
CMD ["greet"]
