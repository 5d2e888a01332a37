FROM debian:bookworm-slim
# kedge: prebuilt=greet.jar released and signed by its vendor
COPY greet.jar /usr/share/greet/
COPY greet.sh /usr/bin/greet
CMD ["greet"]
