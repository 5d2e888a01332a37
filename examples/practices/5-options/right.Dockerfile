FROM gcc:14
ARG LDFLAGS=-Wl,-O1
ENV CFLAGS="-O2 -march=x86-64-v2"
WORKDIR /src
COPY lib.c main.c .
RUN gcc $CFLAGS -c lib.c
RUN gcc $CFLAGS $LDFLAGS -DBUILT="\"$(date -u -d @$SOURCE_DATE_EPOCH)\"" -o /greet main.c lib.o
CMD ["/greet"]
