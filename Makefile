# Everything is built and tested from this repository and its Go modules, on a
# Debian machine that has Go, gcc, git and make. `make` alone lists the targets.

GO          ?= go
FUZZTIME    ?= 30s
TESTTIMEOUT ?= 40m

# Where build puts the programs; relative to here.
BIN ?= bin

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The same sources give the same bytes, wherever they are: no paths, no C
# compiler, and no state of git but the version that is asked for below.
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false
BUILDKIT := github.com/moby/buildkit

# The version of a module in the go.mod of a folder.
VERSION_OF = $(shell $(GO) -C $(1) list -m -f '{{.Version}}' $(2))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: kedge buildkit rootlesskit runc ## bin/kedge, a stock buildkitd and buildctl, rootlesskit, and runc where there is none

# What moves the clock of the second build, for this machine's architecture, and for the other one if there is a
# compiler for it. kedge works without.
.PHONY: clock
clock:
	@cd builder/clock/lib && for target in amd64:x86_64 arm64:aarch64; do \
		cpu=$${target#*:}; cc=$$cpu-linux-gnu-gcc; \
		if [ "$$(uname -m)" = "$$cpu" ]; then cc=cc; fi; \
		if command -v "$$cc" >/dev/null; then \
			(set -x; "$$cc" -O2 -shared -fPIC -nostdlib -fno-builtin -fno-stack-protector -Wl,--build-id=none -s -o "$${target%:*}.so" clock.c) || exit 1; \
		else echo "no $$cc: kedge cannot move the clock of steps on $${target%:*}"; fi; \
	done

# What takes the connections of a RUN whose downloads are locked. Its bytes are part of the cache key of every
# such RUN, so they are committed, and change only with their source and this recipe. RELAYGO is the toolchain.
RELAYGO := go1.26.8
.PHONY: relay
relay: ## network/relay/bin, after a change of network/relay/program
	@set -ex; for arch in amd64 arm64 arm 386 ppc64le riscv64 s390x; do \
		GOTOOLCHAIN=$(RELAYGO) GOFLAGS= GOEXPERIMENT= GOOS=linux GOARCH=$$arch GOAMD64=v1 GOARM64=v8.0 GOARM=6 GO386=sse2 \
			GOPPC64=power8 GORISCV64=rva20u64 CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' \
			-o network/relay/bin/$$arch ./network/relay/program; \
		gzip -9nf network/relay/bin/$$arch; \
	done

.PHONY: kedge
kedge: clock
	$(GOBUILD) -ldflags '-X main.version=$(VERSION)' -o $(BIN)/ ./cmd/kedge

.PHONY: buildkit
buildkit:
	$(GOBUILD) -ldflags '-X $(BUILDKIT)/version.Version=$(call VERSION_OF,.,$(BUILDKIT)) -X $(BUILDKIT)/version.Package=$(BUILDKIT)' \
		-o $(BIN)/ $(BUILDKIT)/cmd/buildkitd $(BUILDKIT)/cmd/buildctl

# What runs buildkitd for a user who is not root. Without the network stack that it
# could bring along: kedge takes slirp4netns, or the machine's network.
.PHONY: rootlesskit
rootlesskit:
	CGO_ENABLED=0 $(GO) -C hack/rootlesskit build -trimpath -buildvcs=false -tags no_gvisortapvsock -o $(abspath $(BIN))/ \
		github.com/rootless-containers/rootlesskit/v3/cmd/rootlesskit

# BuildKit gives every step a seccomp profile, which a runc without libseccomp refuses.
.PHONY: runc
runc:
	@if command -v runc >/dev/null || command -v crun >/dev/null; then :; \
	elif pkg-config --exists libseccomp 2>/dev/null; then \
		set -x; CGO_ENABLED=1 $(GO) -C hack/runc build -trimpath -buildvcs=false -tags seccomp -o $(abspath $(BIN))/ \
			github.com/opencontainers/runc; \
	else \
		echo 'no runc and no crun: apt-get install runc, or libseccomp-dev and pkg-config and then make build'; \
	fi

# What "# syntax=REGISTRY/kedge" names, built and verified by kedge from programs whose bytes follow from the sources.
# FRONTENDFLAGS='--push -t REGISTRY/kedge:TAG' publishes it; all flags of kedge build can be given.
FRONTENDFLAGS ?= -o type=oci,dest=$(BIN)/kedge-frontend.tar
.PHONY: frontend-image
frontend-image: build ## the image for "# syntax=" (docs/frontend.md), for linux/amd64 and linux/arm64
	set -ex; for arch in amd64 arm64; do \
		GOTOOLCHAIN=$(RELAYGO) GOFLAGS= GOEXPERIMENT= GOOS=linux GOARCH=$$arch GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 \
			$(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o $(BIN)/frontend/$$arch/kedge-frontend ./cmd/kedge-frontend; \
	done
	$(BIN)/kedge build --locked --verify --platform linux/amd64,linux/arm64 -f cmd/kedge-frontend/Dockerfile $(FRONTENDFLAGS) $(BIN)/frontend

.PHONY: demo
demo: deps build ## lock, build and verify examples/hello on kedge's own builder
	$(GO) run ./internal/demo

# Scripts wait for the network and for a clock more than they compute.
PARALLEL ?= 4

.PHONY: test
test: deps testdeps build engines ## all tests, with real daemons; installs what they need
	KEDGE_TEST_REQUIRE=1 $(GO) test -count=1 -shuffle=on -parallel=$(PARALLEL) -timeout=$(TESTTIMEOUT) ./...

# The base image's date is the mirror's: no test may depend on it.
.PHONY: test-dates
DATES ?= 2001-02-03T04:05:06Z 2035-06-07T08:09:10Z
DATED := build_locks|cache_times|context_(http|modes)|explain|lock_(forms|refresh)|verify_(fails|same)
test-dates: deps testdeps build ## the scripts that have to do with dates, on base images from the past and the future
	set -e; for created in $(DATES); do \
		KEDGE_TEST_REQUIRE=1 KEDGE_TEST_BASE_CREATED=$$created \
			$(GO) test -count=1 -shuffle=on -parallel=$(PARALLEL) -timeout=$(TESTTIMEOUT) -run '^TestScript$$/^($(DATED))' ./cmd/kedge; \
	done

.PHONY: test-downloads
test-downloads: deps testdeps build ## what package managers and other programs download, recorded and replayed without a network
	KEDGE_TEST_REQUIRE=1 $(GO) test -tags downloads -count=1 -timeout=$(TESTTIMEOUT) -run '^TestTools$$' -v ./cmd/kedge

.PHONY: test-buildx
test-buildx: deps build engines ## the integration tests of buildx, with kedge in front of it
	@sh hack/deps docker-registry $(BIN)/docker-registry
	KEDGE_TEST_REQUIRE=1 $(GO) test -tags buildx -count=1 -timeout=$(TESTTIMEOUT) -run '^TestBuildx$$' -v ./internal/parity

.PHONY: test-short
test-short: ## the tests that need nothing but Go
	$(GO) test -short -shuffle=on ./...

.PHONY: bench
bench: deps build ## how long builds take, with kedge and without
	$(GO) run ./internal/bench

# More flags: CORPUSFLAGS='-out FILE -resume -offline'.
.PHONY: corpus
corpus: deps build ## how many of the contexts below CORPUS (folders, or packages) come out the same
	$(GO) run ./internal/corpus $(CORPUSFLAGS) $(or $(CORPUS),$(addprefix packages:,bullseye bookworm trixie sid) internal/corpus/apps)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s) each
	@set -e; for dir in $$(git grep -lE '^func Fuzz' -- '*_test.go' | xargs -r -n1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | cut -d' ' -f2); do \
			echo "fuzz: ./$$dir $$target"; \
			$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=10x "./$$dir"; \
		done; \
	done

# A failure names its seed: go test ./internal/parity -run TestRandom -seed N -seeds 1.
.PHONY: fuzz-parity
fuzz-parity: deps build testdeps ## random Dockerfiles, built by kedge and by buildx, for FUZZTIME
	$(GO) test ./internal/parity -count=1 -timeout=0 -run=TestRandom -seed=$$(date +%s) -fuzz-parity=$(FUZZTIME)

.PHONY: lint
lint: vet $(BIN)/golangci-lint ## gofmt, go vet, golangci-lint, and plain English
	$(GO) run ./internal/prose
	$(BIN)/golangci-lint run ./...

$(BIN)/golangci-lint: hack/lint/go.mod hack/lint/go.sum
	CGO_ENABLED=0 $(GO) -C hack/lint build -trimpath -buildvcs=false -o $(abspath $(BIN))/golangci-lint \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: vet
vet:
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted (gofmt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

.PHONY: docs
docs: ## man/, and the parts of docs/ that follow from the code
	$(GO) test ./rules -run Markdown -update
	$(GO) test ./lint -run Markdown -update
	$(GO) test ./cause -run KindsMarkdown -update
	$(GO) test ./internal/parity -run Page -update
	$(GO) test ./cmd/kedge -run ManPages -update

# What kedge build is compared with, docker buildx, docker compose, and two Docker Engines with
# their command lines: Debian's, which is old and has the graphdriver store, and a
# current one with the containerd store. That one wants a newer runc than Debian
# 12's, which is made without libseccomp: the tests turn seccomp off for it.
# (BuildKit cannot be told to, so it has to have Debian's.)
.PHONY: engines
engines:
	@sh hack/deps docker.io $(BIN)/docker.io
	CGO_ENABLED=0 $(GO) -C hack/engine build -trimpath -buildvcs=false -o $(abspath $(BIN))/engine/ \
		-ldflags '-X github.com/moby/moby/v2/dockerversion.Version=$(call VERSION_OF,hack/engine,github.com/moby/moby/v2) -X github.com/docker/cli/cli/version.Version=$(call VERSION_OF,hack/engine,github.com/docker/cli)' \
		github.com/docker/cli/cmd/docker \
		github.com/moby/moby/v2/cmd/dockerd \
		github.com/containerd/containerd/v2/cmd/containerd \
		github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
	CGO_ENABLED=0 $(GO) -C hack/buildx build -trimpath -buildvcs=false -o $(abspath $(BIN))/buildx \
		-ldflags '-X github.com/docker/buildx/version.Version=$(call VERSION_OF,hack/buildx,github.com/docker/buildx)' \
		github.com/docker/buildx/cmd/buildx
	CGO_ENABLED=0 $(GO) -C hack/compose build -trimpath -buildvcs=false -o $(abspath $(BIN))/docker-compose \
		-ldflags '-X github.com/docker/compose/v5/internal.Version=$(call VERSION_OF,hack/compose,github.com/docker/compose/v5)' \
		github.com/docker/compose/v5/cmd
	CGO_ENABLED=1 $(GO) -C hack/runc build -trimpath -buildvcs=false -o $(abspath $(BIN))/engine/ \
		github.com/opencontainers/runc

.PHONY: deps
deps:
	@sh hack/deps

# What tests open reports in.
.PHONY: testdeps
testdeps:
	@sh hack/deps tests

.PHONY: clean
clean: ## remove bin; images made for tests stay in the user's cache
	rm -rf bin
