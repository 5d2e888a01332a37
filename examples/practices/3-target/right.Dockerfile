FROM golang:1.26 AS build
WORKDIR /src
COPY . .
RUN go test ./...
RUN CGO_ENABLED=0 go build -o /greet .

FROM scratch AS app
COPY --from=build /greet /greet
CMD ["/greet"]
