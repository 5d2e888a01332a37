FROM gcc:14 AS lib
ENV CFLAGS="-O3 -march=native"
WORKDIR /src
COPY lib.c .
RUN gcc $CFLAGS -c lib.c

FROM gcc:14
ARG LDFLAGS
ENV CFLAGS="-O2"
WORKDIR /src
COPY --from=lib /src/lib.o .
COPY main.c .
RUN gcc $CFLAGS $LDFLAGS -DBUILT="\"$(date)\"" -o /greet main.c lib.o
CMD ["/greet"]
