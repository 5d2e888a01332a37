package lint

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/lock"
)

var now = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)

// found returns "LINE RULE" of each finding, without those of the rule "lock".
func found(t *testing.T, in Input) []string {
	t.Helper()
	in.Name, in.Now = "Dockerfile", now
	findings, err := Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range findings {
		if f.Message == "" || f.Fix == "" || Find(f.Rule) == nil {
			t.Errorf("an empty finding: %+v", f)
		}
		list = append(list, fmt.Sprint(f.Line, " ", f.Rule))
	}
	return list
}

func folder(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return m
}

// Each rule finds its cases and leaves the near ones alone.
func TestRules(t *testing.T) {
	const npmLock = `{"lockfileVersion":3,"packages":{"":{"dependencies":{"a":"^1.0.0"}}}}`
	node := map[string]string{"package.json": `{"dependencies":{"a":"^1.0.0"}}`, "package-lock.json": npmLock, "index.js": ""}
	tests := []struct {
		rule       string
		dockerfile string
		files      map[string]string
		ignore     []string
		want       bool
	}{
		{"volatile-arg", "FROM a\nARG GIT_COMMIT\nLABEL rev=$GIT_COMMIT", nil, nil, true},
		{"volatile-arg", "FROM a\nARG BUILD_DATE\nRUN echo ${BUILD_DATE} > /d", nil, nil, true},
		{"volatile-arg", "FROM a\nARG BUILD_DATE\nRUN make", nil, nil, false},
		{"volatile-arg", "FROM a\nARG VERSION=1\nLABEL version=$VERSION", nil, nil, false},
		{"volatile-arg", "FROM a\nARG GIT_COMMIT\nLABEL rev=$GIT_COMMITTER", nil, nil, false},
		{"base-arg", "ARG V\nFROM a:$V", nil, nil, true},
		{"base-arg", "ARG V=1\nFROM a:$V", nil, nil, false},
		{"base-arg", "ARG V\nFROM a:${V:-1}", nil, nil, false},
		{"base-arg", "ARG V\nFROM a${V:+-debug}", nil, nil, false},
		{"base-arg", "ARG TARGETOS\nFROM a-$TARGETOS", nil, nil, false},
		{"end-of-life", "FROM debian:buster-slim", nil, nil, true},
		{"end-of-life", "FROM debian:10", nil, nil, true},
		{"end-of-life", "FROM python:3.8-buster", nil, nil, true},
		{"end-of-life", "FROM ubuntu:18.04", nil, nil, true},
		{"end-of-life", "FROM nvidia/cuda:11-base-ubuntu18.04", nil, nil, true},
		{"end-of-life", "FROM debian:bookworm", nil, nil, false},
		{"end-of-life", "FROM node:10", nil, nil, false},
		{"end-of-life", "FROM debian:12.7-slim", nil, nil, false},
		{"end-of-life", "FROM a AS buster\nFROM buster", nil, nil, false},
		{"shared-name", "FROM a", map[string]string{"compose.yaml": "services:\n  a:\n    image: x\n    build: {context: ., args: {V: 1}}\n  b:\n    image: x\n    build: {context: ., args: [V=2]}\n"}, nil, true},
		{"shared-name", "FROM a", map[string]string{"docker-bake.json": `{"target":{"a":{"tags":["x"],"args":{"V":"1"}},"b":{"tags":["x"]}}}`}, nil, true},
		{"shared-name", "FROM a", map[string]string{"compose.yaml": "services:\n  a:\n    image: x\n    build: {context: ., args: {V: 1}}\n  b:\n    image: x\n    build: {context: ., args: [V=1]}\n"}, nil, false},
		{"shared-name", "FROM a", map[string]string{"compose.yaml": "services:\n  a:\n    image: x\n    build: {context: ., args: {V: 1}}\n  b:\n    image: x\n    build: other\n  c:\n    image: x:$V\n    build: .\n"}, nil, false},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{"compose.yml": "services:\n  a:\n    image: r.io/x\n    build:\n      context: .\n      target: dev\n"}, nil, true},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n    - uses: docker/build-push-action@v6\n      with:\n        push: true\n        target: dev\n"}, nil, true},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{".gitlab-ci.yml": "build:\n  script:\n  - docker build --target=dev -t x .\n  - docker push x\n"}, nil, true},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n    - run: docker buildx build --push --target dev -t x .\n"}, nil, true},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{".gitlab-ci.yml": "build:\n  script:\n  - docker build --target=dev -t x .\n  - docker run x npm test\n  - docker build -t y .\n  - docker push y\n"}, nil, false},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{"docker-bake.hcl": "# x\nvariable \"R\" { default = \"r.io\" }\ntarget \"c\" {\n  output = [{ type = \"registry\" }]\n}\ntarget \"d\" {\n  inherits = [\"c\"]\n  target = \"dev\"\n  tags = [\"${R}/x\", foo(\"}\")]\n}\n"}, nil, true},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{"docker-bake.hcl": "target \"d\" {\n  target = \"dev\"\n  output = [\"type=cacheonly\"]\n}\ntarget \"app\" {\n  target = STAGE\n  output = [\"type=registry\"]\n}\ntarget \"other\" {\n  context = \"x\"\n  target = \"dev\"\n  output = [\"type=registry\"]\n}\n"}, nil, false},
		{"shared-name", "FROM a", map[string]string{"docker-bake.hcl": "target \"a\" {\n  tags = [\"x\"]\n  args = {\n    V = \"1\", W: 2\n  }\n}\ntarget \"b\" {\n  tags = [\"x\"]\n}\n"}, nil, true},
		{"shared-name", "FROM a", map[string]string{"docker-bake.hcl": "target \"a\" {\n  tags = [\"x\"]\n  args = {\n    V = 1e999999999\n  }\n}\ntarget \"b\" {\n  tags = [\"x\"]\n  args = {\n    V = 1e999999999 % 3\n  }\n}\n"}, nil, true},
		{"shared-name", "FROM a", map[string]string{"docker-bake.hcl": "target \"a\" {\n  tags = [\"x\"]\n  args = { V = \"1\" }\n}\ntarget \"b\" {\n  inherits = [\"a\"]\n  args = { V = \"2\" }\n}\ntarget \"c\" {\n  tags = [\"${Y}\"]\n}\n"}, nil, false},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{"Jenkinsfile": "pipeline { stages { stage('b') { steps {\n sh \"docker build --target dev -t ${R}/x .\"\n sh(label: 'push it', script: '''\n  docker push $R/x\n ''')\n} } } }\n"}, nil, true},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{"Jenkinsfile": "node {\n // sh 'docker build --target dev --push .'\n echo 'docker build --target dev --push .'\n dir('x') { sh 'docker build --target dev --push .' }\n sh 'kedge build --target app --push .'\n sh 'cd x && docker build --target dev --push .'\n}\n"}, nil, false},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n    - run: docker build --push --target dev .\n      working-directory: x\n"}, nil, false},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{"compose.yml": "services:\n  a:\n    image: x-dev\n    build:\n      context: .\n      target: dev\n"}, nil, false},
		{"other-target", "FROM a AS dev\nFROM b AS app", map[string]string{".github/workflows/ci.yml": "jobs:\n  a:\n    steps:\n    - uses: docker/build-push-action@v6\n      with:\n        push: true\n        target: app\n    - uses: docker/build-push-action@v6\n      with:\n        target: dev\n", "compose.yaml": "\t["}, nil, false},
		{"tested-elsewhere", "FROM a AS test\nRUN go test ./...\nFROM b\nRUN make", nil, nil, true},
		{"tested-elsewhere", "FROM a AS build\nRUN go test ./...\nFROM b\nCOPY --from=build /x /x", nil, nil, false},
		{"tested-elsewhere", "FROM a AS ship\nRUN make\nFROM ship AS test\nRUN make test\nFROM ship", nil, nil, false},
		{"piped-shell", "FROM a\nRUN curl -fsSL https://x.io/i | sh", nil, nil, true},
		{"piped-shell", "FROM a\nRUN curl -fsSL https://x.io/i | sudo -E bash -", nil, nil, true},
		{"piped-shell", "FROM a\nRUN bash -c \"$(wget -qO- https://x.io/i)\"", nil, nil, true},
		{"piped-shell", "FROM a\nRUN bash <(curl https://x.io/i)", nil, nil, true},
		{"piped-shell", "FROM a\nONBUILD RUN curl https://x.io/i | python3 -", nil, nil, true},
		{"piped-shell", "FROM a\nRUN curl https://x.io/i | python3 -m json.tool", nil, nil, false},
		{"piped-shell", "FROM a\nRUN curl https://x.io/i | tar x && sh ./i", nil, nil, false},
		{"piped-shell", "FROM a\nCMD curl https://x.io/i | sh", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl -fsSLo /x https://x.io/x", nil, nil, true},
		{"unchecked-download", "FROM a\nRUN wget https://x.io/x.tar.gz && tar xf x.tar.gz", nil, nil, true},
		{"unchecked-download", "FROM a\nRUN curl -L https://x.io/x.tgz | tar xz", nil, nil, true},
		{"unchecked-download", "FROM a\nRUN curl -O https://x.io/x && echo 'abc  x' | sha256sum -c", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl https://x.io/key | gpg --dearmor > /k", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl -f http://localhost:80/ -o /x", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl -fI https://x.io/", nil, nil, false},
		{"unchecked-download", "FROM a\nADD https://x.io/x /x", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN wget https://x.io/archive/0123456789012345678901234567890123456789.zip", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl -o /b/tool https://x.io/tool-$ARCH\nRUN minisign -Vm /b/tool -P key", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl -O https://x.io/tool-1.0\nRUN echo 'abc  other' | sha256sum -c", nil, nil, true},
		{"unchecked-download", "FROM a\nRUN curl -O https://x.io/tool.sha256sum", nil, nil, false},
		{"moving-url", "FROM a\nRUN wget https://raw.githubusercontent.com/a/b/master/c", nil, nil, true},
		{"moving-url", "FROM a\nRUN wget -O- https://raw.githubusercontent.com/a/b/master/c | sh", nil, nil, false}, // piped-shell says more
		{"moving-url", "FROM a\nRUN curl -L https://x.io/releases/latest/download/c -o c", nil, nil, true},
		{"moving-url", "FROM a\nRUN wget https://raw.githubusercontent.com/a/b/0123456789012345678901234567890123456789/c", nil, nil, false},
		{"unchecked-download", "FROM a\nRUN curl -L https://x.io/releases/latest/download/c -o c", nil, nil, false}, // moving-url says more
		{"moving-url", "FROM a\nRUN wget https://x.io/v1.2/maintenance.tar.gz", nil, nil, false},
		{"moving-url", "FROM a\nRUN wget https://snapshot.debian.org/archive/debian/20250721T022532Z/pool/main/d/d/d_1_all.deb", nil, nil, false},
		{"git-branch", "FROM a\nRUN git clone https://x.io/a.git", nil, nil, true},
		{"git-branch", "FROM a\nRUN git clone --depth 1 -b v1 https://x.io/a.git /a", nil, nil, true},
		{"git-branch", "FROM a\nRUN git clone https://x.io/a.git && cd a && git checkout 0123456789012345678901234567890123456789", nil, nil, false},
		{"git-branch", "FROM a\nARG C=1\nRUN git clone https://x.io/a && git -C a checkout $COMMIT", nil, nil, false},
		{"git-branch", "FROM a\nRUN git clone /src /dst", nil, nil, false},
		{"git-branch", "FROM a\nRUN git clone https://x.io/a\nWORKDIR a\nARG C\nRUN git pull && git checkout $C", nil, nil, false},
		{"git-branch", "FROM a\nARG C=0123456789012345678901234567890123456789\nRUN git clone https://x.io/a && git -C a checkout $C", nil, nil, false},
		{"git-branch", "FROM a\nRUN git clone https://x.io/a && git -C a checkout cf505ea", nil, nil, false},
		{"git-branch", "FROM a\nARG C=main\nRUN git clone https://x.io/a && git -C a checkout $C", nil, nil, true},
		{"package-upgrade", "FROM a\nRUN apt-get update && apt-get -y upgrade", nil, nil, true},
		{"package-upgrade", "FROM a\nRUN apk upgrade --no-cache", nil, nil, true},
		{"package-upgrade", "FROM a\nRUN apt-get install -y upgrade-notes", nil, nil, false},
		{"package-upgrade", "FROM a\nRUN apk upgrade openssl", nil, nil, false},
		{"package-upgrade", "FROM a\nRUN apt-get update", nil, nil, false},
		{"unsigned-packages", "FROM a\nRUN echo 'deb [trusted=yes] https://x.io ./' > /etc/apt/sources.list.d/x.list", nil, nil, true},
		{"unsigned-packages", "FROM a\nRUN echo 'deb [signed-by=/k] https://x.io ./' > /etc/apt/sources.list.d/x.list", nil, nil, false},
		{"native-code", "FROM a\nRUN gcc -O2 -march=native a.c", nil, nil, true},
		{"native-code", "FROM a\nENV RUSTFLAGS=\"-C target-cpu=native\"", nil, nil, true},
		{"native-code", "FROM a\nRUN gcc -march=x86-64-v2 a.c && npm i native", nil, nil, false},
		{"native-code", "FROM a\nRUN make \\\n# not -march=native\n  all", nil, nil, false},
		{"build-date", "FROM a\nRUN date > /built", nil, nil, true},
		{"build-date", "FROM a\nRUN go build -ldflags \"-X main.date=$(date +%F)\"", nil, nil, true},
		{"build-date", "FROM a\nRUN echo \"built at $(date)\"", nil, nil, false},
		{"build-date", "FROM a\nRUN date", nil, nil, false},
		{"build-date", "FROM a\nRUN date -u -d @$SOURCE_DATE_EPOCH > /built", nil, nil, false},
		{"build-date", "FROM a\nRUN apt-get install -y tzdata && update-date", nil, nil, false},
		{"git-describe", "FROM a\nRUN V=$(git describe --tags --dirty) make", nil, nil, true},
		{"git-describe", "FROM a\nRUN V=$(git describe --tags) make", nil, nil, false},
		{"go-path", "FROM a\nARG P\nWORKDIR /src/$P\nRUN go build ./...", nil, nil, true},
		{"go-path", "FROM a\nARG P\nWORKDIR /src/$P\nRUN go build -trimpath ./...", nil, nil, false},
		{"go-path", "FROM a\nWORKDIR /src\nRUN go build ./...", nil, nil, false},
		{"go-path", "FROM a\nENV R=/app\nWORKDIR $R/src\nRUN go build ./...", nil, nil, false},
		{"go-path", "FROM golang\nWORKDIR $GOPATH/src\nRUN go build ./...", nil, nil, false},
		{"go-path", "FROM a\nARG P\nWORKDIR /src/$P\nWORKDIR /b\nRUN go build ./...", nil, nil, false},
		{"flags-from-arg", "FROM a\nARG CFLAGS\nRUN make", nil, nil, true},
		{"flags-from-arg", "FROM a\nARG OPT\nENV CFLAGS=$OPT", nil, nil, true},
		{"flags-from-arg", "FROM a\nARG CFLAGS=-O2\nENV LDFLAGS=-s", nil, nil, false},
		{"flags-differ", "FROM a AS x\nENV CFLAGS=-O2\nFROM a\nENV CFLAGS=-O3\nCOPY --from=x /l /l", nil, nil, true},
		{"flags-differ", "FROM a AS x\nENV CFLAGS=-O2\nFROM a\nENV CFLAGS=-O2\nCOPY --from=x /l /l", nil, nil, false},
		{"flags-differ", "FROM a AS x\nENV CFLAGS=-O2\nFROM a\nENV CFLAGS=\"-O2\"\nCOPY --from=x /l /l", nil, nil, false},
		{"flags-differ", "FROM a AS x\nENV CFLAGS=-O2\nFROM x\nENV CFLAGS=-O3", nil, nil, false},
		{"flags-differ", "FROM a AS x\nENV CFLAGS=-O2\nFROM a\nENV CFLAGS=-O3", nil, nil, false},
		{"flags-differ", "FROM a AS x\nRUN gcc -O2 -c src/l.c -o /l.o\nFROM a\nCOPY --from=x /l.o /l.o\nRUN cd src && gcc -O3 -c l.c", nil, nil, true},
		{"flags-differ", "FROM a AS x\nRUN g++-12 -O2 -DNDEBUG l.cc\nFROM a\nCOPY --from=x /l /l\nRUN g++-12 -O2 l.cc", nil, nil, true},
		{"flags-differ", "FROM a AS x\nRUN gcc -O2 -g -c l.c -o /x/l.o\nFROM a\nCOPY --from=x /l.o /l.o\nRUN gcc -g -O2 -c l.c", nil, nil, false},
		{"flags-differ", "FROM a AS x\nRUN gcc -O2 l.c\nFROM a\nCOPY --from=x /l /l\nRUN gcc -O3 m.c", nil, nil, false},
		{"flags-differ", "FROM a AS x\nRUN gcc -O0 l.c\nFROM a\nRUN gcc -O3 l.c", nil, nil, false},
		{"flags-differ", "FROM a\nRUN gcc -O0 l.c -o debug && gcc -O3 l.c", nil, nil, false},
		{"measured-profile", "FROM a\nRUN gcc -fprofile-generate a.c && ./a.out && gcc -fprofile-use a.c", nil, nil, true},
		{"measured-profile", "FROM a\nCOPY a.gcda .\nRUN gcc -fprofile-use a.c", nil, nil, false},
		{"prebuilt", "FROM a\nCOPY tool /usr/bin/", map[string]string{"tool": elfHead}, nil, true},
		{"prebuilt", "FROM a\nCOPY . /", map[string]string{"lib/x.jar": "PK\x03\x04........"}, nil, true},
		{"prebuilt", "FROM a\n# kedge: prebuilt=tool signed by its vendor\nCOPY tool /usr/bin/", map[string]string{"tool": elfHead}, nil, false},
		{"prebuilt", "FROM a\nCOPY . /", map[string]string{"tests/tool": elfHead}, nil, true},
		{"prebuilt", "FROM a AS b\nCOPY . /\nFROM a\nCOPY --from=b /x /", map[string]string{"tests/tool": elfHead}, nil, false},
		{"prebuilt", "FROM a\nCOPY src /", map[string]string{"tool": elfHead, "src/a.c": ""}, nil, false},
		{"prebuilt", "FROM a\nCOPY . /", map[string]string{"tool": elfHead}, []string{"tool"}, false},
		{"prebuilt", "FROM a\nCOPY . /", map[string]string{"run": "#!/bin/sh\necho hello, world\n", "gradle/wrapper/gradle-wrapper.jar": "PK\x03\x04........"}, nil, false},
		{"prebuilt", "FROM a\nCOPY . /", map[string]string{"dist/app.js": "/* (c) */\n" + strings.Repeat("a(function(){b=1;});", 400)}, nil, true},
		{"prebuilt", "FROM a\nCOPY . /", map[string]string{"app.js": strings.Repeat("a(function(){b=1;});\n", 400), "d.js": "x = \"" + strings.Repeat("QUJD", 4000) + "\";\n", ".yarn/releases/yarn-4.cjs": strings.Repeat("a(function(){b=1;});", 400)}, nil, false},
		{"unlocked-install", "FROM a\nCOPY package*.json ./\nRUN npm install", node, nil, true},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN cd x && npm i --no-audit", node, nil, true},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN npm install --prefix web", map[string]string{"web/package.json": "{}", "web/package-lock.json": "{}"}, nil, true},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN go mod tidy && go build", map[string]string{"go.mod": "module a\n", "go.sum": ""}, nil, true},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN go mod tidy && cp go.mod go.sum /out", map[string]string{"go.mod": "module a\n", "go.sum": ""}, nil, false},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN [\"npm\", \"install\"]", node, nil, true},
		{"unlocked-install", "FROM a\nRUN --mount=type=bind,source=package.json,target=package.json --mount=type=bind,source=package-lock.json,target=package-lock.json npm install", node, nil, true},
		{"unlocked-install", "FROM a\nRUN --mount=target=. npm install", node, nil, true},
		{"unlocked-install", "FROM a\nRUN --mount=source=package.json,target=package.json npm install", node, nil, false},
		{"unlocked-install", "FROM a\nRUN --mount=type=cache,target=/root/.npm npm install", node, nil, false},
		{"unlocked-install", "FROM a\nCOPY package*.json ./\nRUN npm ci", node, nil, false},
		{"unlocked-install", "FROM a\nCOPY package*.json ./\nRUN npm ci --omit=dev && npm run build && echo npm install", node, nil, false},
		{"unlocked-install", "FROM a\nRUN npm install", node, nil, false},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN cargo build --release", map[string]string{"Cargo.toml": "", "Cargo.lock": ""}, nil, true},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN cargo build --release --locked", map[string]string{"Cargo.toml": "", "Cargo.lock": ""}, nil, false},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN uv sync --frozen", map[string]string{"pyproject.toml": "", "uv.lock": ""}, nil, false},
		{"unlocked-install", "FROM a\nENV BUNDLE_DEPLOYMENT=1\nCOPY . .\nRUN bundle install", map[string]string{"Gemfile": "", "Gemfile.lock": ""}, nil, false},
		{"unlocked-install", "FROM a\nCOPY . .\nRUN go build ./...", map[string]string{"go.mod": "module a\n", "go.sum": ""}, nil, false},
		{"missing-lock", "FROM a\nCOPY package.json ./\nRUN npm install\nCOPY . .", node, nil, true},
		{"missing-lock", "FROM a\nCOPY . .\nRUN npm install", map[string]string{"package.json": `{"dependencies":{"a":"1"}}`}, nil, true},
		{"missing-lock", "FROM a\nCOPY . .\nRUN npm install", map[string]string{"package.json": "{}"}, nil, false},
		{"missing-lock", "FROM a\nCOPY . .\nRUN cargo build --offline", map[string]string{"Cargo.toml": "[dependencies]\na = \"1\"\n"}, nil, false},
		{"missing-lock", "FROM a\nCOPY . .\nRUN npm install", node, []string{"package-lock.json"}, true},
		{"missing-lock", "FROM a\nCOPY . .\nRUN npm ci", node, nil, false},
		{"missing-lock", "FROM a\nCOPY . .\nRUN composer install", map[string]string{"composer.json": `{"require":{"php":">=8","a/b":"1"}}`}, nil, true},
		{"missing-lock", "FROM a\nCOPY . .\nRUN composer install", map[string]string{"composer.json": `{"require":{"php":">=8","ext-intl":"*"}}`}, nil, false},
		{"missing-lock", "FROM a AS s\nCOPY . .\nFROM a\nCOPY --from=s / /\nCOPY package.json ./\nRUN npm install", node, nil, false},
		{"missing-lock", "FROM a\nCOPY . .\nRUN go build", map[string]string{"go.mod": "module a\n"}, nil, false},
		{"missing-lock", "FROM a\nCOPY . .\nRUN go build", map[string]string{"go.mod": "module a\nrequire example.com/b v1.0.0\n"}, nil, true},
		{"unversioned-install", "FROM a\nRUN npm install -g typescript", nil, nil, true},
		{"unversioned-install", "FROM a\nRUN npm install -g typescript@5.4.2 --loglevel=error", nil, nil, false},
		{"unversioned-install", "FROM a\nRUN npm install -w web --omit=dev", nil, nil, false},
		{"unversioned-install", "FROM a\nRUN pip install --no-cache-dir requests", nil, nil, true},
		{"unversioned-install", "FROM a\nRUN python3 -m pip install -U pip", nil, nil, true},
		{"unversioned-install", "FROM a\nRUN pip install --index-url https://x.io requests==2.31.0 -t /x", nil, nil, false},
		{"unversioned-install", "FROM a\nRUN pip install -e .", nil, nil, false},
		{"unversioned-install", "FROM a\nRUN pip install -r requirements.txt", nil, nil, false},
		{"unversioned-install", "FROM a\nRUN go install example.com/x@latest", nil, nil, true},
		{"unversioned-install", "FROM a\nRUN go install example.com/x@v1.2.3", nil, nil, false},
		{"unversioned-install", "FROM a\nRUN apt-get install -y curl", nil, nil, false},
		{"loose-requirements", "FROM a\nCOPY . .\nRUN pip install -r requirements.txt", map[string]string{"requirements.txt": "requests>=2\n"}, nil, true},
		{"loose-requirements", "FROM a\nCOPY . .\nRUN pip install -r requirements.txt", map[string]string{"requirements.txt": "requests==2.31.0\n# x\n-i https://x.io\n"}, nil, false},
		{"loose-requirements", "FROM a\nCOPY . .\nRUN pip install --require-hashes -r r.txt", map[string]string{"r.txt": "a==1 \\\n  --hash=sha256:0\nb==2\n"}, nil, true},
		{"stale-lock", "FROM a\nCOPY . .\nRUN npm ci", map[string]string{"package.json": `{"dependencies":{"a":"^1.0.0","b":"1"}}`, "package-lock.json": npmLock}, nil, true},
		{"stale-lock", "FROM a\nCOPY . .\nRUN npm ci", node, nil, false},
		{"stale-lock", "FROM a\nCOPY . .\nRUN go build", map[string]string{"go.mod": "module a\nrequire example.com/b v1.1.0\n", "go.sum": "example.com/b v1.0.0 h1:x=\n"}, nil, true},
		{"stale-lock", "FROM a\nCOPY . .\nRUN go build", map[string]string{"go.mod": "module a\nrequire example.com/b v1.1.0\nreplace example.com/b => ../b\n", "go.sum": ""}, nil, false},
		{"stale-lock", "FROM a\nCOPY . .\nRUN go build", map[string]string{"go.mod": "module a\nexclude (\n\texample.com/b v1.1.0\n)\n", "go.sum": ""}, nil, false},
		{"stale-lock", "FROM a\nCOPY . .\nRUN cargo build", map[string]string{"Cargo.toml": "[package]\nname = \"a\"\n[dependencies]\nserde = \"1\"\n", "Cargo.lock": "name = \"a\"\n"}, nil, true},
		{"stale-lock", "FROM a\nCOPY . .\nRUN bundle install", map[string]string{"Gemfile": "gem 'rack'\n", "Gemfile.lock": "GEM\n\nDEPENDENCIES\n  rack (~> 3)\n\n"}, nil, false},
	}
	planted, near := map[string]bool{}, map[string]bool{}
	for _, test := range tests {
		in := Input{Dockerfile: []byte(test.dockerfile), Ignore: test.ignore}
		if test.files != nil {
			in.Context = folder(test.files)
		}
		got := false
		list := found(t, in)
		for _, f := range list {
			got = got || strings.HasSuffix(f, " "+test.rule)
		}
		if got != test.want {
			t.Errorf("%s is %v for\n%s\n%q: found %q", test.rule, got, test.dockerfile, test.files, list)
		}
		if test.want {
			planted[test.rule] = true
		} else {
			near[test.rule] = true
		}
	}
	for _, r := range Rules {
		if r.ID != "lock" && (!planted[r.ID] || !near[r.ID]) {
			t.Errorf("%s has no planted case, or no near one", r.ID)
		}
		if r.What == "" || r.Why == "" || r.Fix == "" || r.Practice < 1 || r.Practice > 7 {
			t.Errorf("%s is not described", r.ID)
		}
	}
}

// elfHead begins an ELF file for amd64.
const elfHead = "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00................................"

func TestPrebuiltForeign(t *testing.T) {
	in := Input{Dockerfile: []byte("FROM a\nCOPY tool /"), Context: folder(map[string]string{"tool": elfHead}), Platform: "linux/arm64", Tracked: map[string]bool{}}
	findings, err := Check(t.Context(), in)
	if err != nil || len(findings) != 1 || findings[0].Level != Error || !strings.Contains(findings[0].Message, "tool (ELF for amd64, not in git); tool does not run on linux/arm64") {
		t.Errorf("%+v, %v", findings, err)
	}
}

// TestPrebuiltMany: of many files in a folder whose names do not tell what they are, the first ones are opened.
func TestPrebuiltMany(t *testing.T) {
	files := fstest.MapFS{"data/z": {Data: []byte(elfHead)}}
	in := Input{Dockerfile: []byte("FROM a\nCOPY . /"), Context: files}
	check := func(want bool) {
		t.Helper()
		if got := slices.Contains(found(t, in), "2 prebuilt"); got != want {
			t.Errorf("%d files: reported: %v", len(files), got)
		}
	}
	for i := range mostUntold - 1 {
		files[fmt.Sprintf("data/%d", i)] = &fstest.MapFile{}
	}
	check(true)
	files["data/more"] = &fstest.MapFile{}
	check(false)
	files["z"] = files["data/z"]
	check(true)
	delete(files, "z")
	files["data/z.so"] = files["data/z"]
	check(true)
}

func TestLock(t *testing.T) {
	const dockerfile = "FROM debian:12\nFROM golang AS b\nCOPY --from=busybox:1 /x /x\nFROM b AS c\nFROM a@sha256:0000000000000000000000000000000000000000000000000000000000000000\nADD https://x.io/a /a\nCOPY --from=0 / /\nCOPY --from=c / /\n"
	full := &lock.File{}
	for ref, kind := range map[string]lock.Kind{"docker.io/library/debian:12": lock.Image, "docker.io/library/golang:latest": lock.Local, "docker.io/library/busybox:1": lock.Image, "https://x.io/a": lock.URL} {
		if err := full.Add(lock.Source{Kind: kind, Ref: ref}, "sha256:"+strings.Repeat("0", 64)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name      string
		lock      *lock.File
		untracked string
		want      []string
	}{
		{"none", nil, "", []string{"0 lock"}},
		{"empty", &lock.File{}, "", []string{"1 lock", "2 lock", "3 lock", "6 lock"}},
		{"full", full, "", nil},
		{"ignored", full, "ignored", []string{"0 lock"}},
	} {
		got := found(t, Input{Dockerfile: []byte(dockerfile), Lockfile: "Dockerfile.lock", Lock: test.lock, LockUntracked: test.untracked})
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// A stage that the image does not come from is not built: its findings are remarks, and the lock has no pins for it.
func TestOtherStages(t *testing.T) {
	const dockerfile = "FROM other AS dev\nRUN curl x://a | sh\nFROM a\nRUN curl x://b | sh\n"
	pinned := &lock.File{}
	if err := pinned.Add(lock.Source{Kind: lock.Image, Ref: "docker.io/library/a:latest"}, "sha256:"+strings.Repeat("0", 64)); err != nil {
		t.Fatal(err)
	}
	findings, err := Check(t.Context(), Input{Name: "Dockerfile", Dockerfile: []byte(dockerfile), Lockfile: "Dockerfile.lock", Lock: pinned})
	if err != nil || len(findings) != 2 || findings[0].Level != Info || findings[1].Level != Error {
		t.Errorf("%+v, %v", findings, err)
	}
}

// A tag with a version is a remark, a branch is a warning, and both are named.
func TestGitRefs(t *testing.T) {
	for dockerfile, want := range map[string]string{
		"RUN git clone -b v1.2.0 https://x.io/a":                                                                                                       "info: git fetches the tag v1.2.0, which its owner can move",
		"ARG V=gopls/v0.20\nRUN git clone https://x.io/a && git -C a checkout $V":                                                                      "info: git fetches the tag gopls/v0.20, which its owner can move",
		"RUN git clone https://x.io/a\nRUN cd a && git reset --hard main":                                                                              "warning: git fetches whatever is on main on the day of the build",
		"RUN git clone --branch=release/2.44/master https://x.io/a":                                                                                    "warning: git fetches whatever is on release/2.44/master on the day of the build",
		"RUN git clone https://x.io/a && make -C a\nRUN git clone https://x.io/b.git && cd b && git checkout 0123456789012345678901234567890123456789": "warning: git fetches whatever is on the default branch on the day of the build",
		"RUN git clone https://x.io/a.git && git clone /b && cd a && git checkout v1.2":                                                                "info: git fetches the tag v1.2, which its owner can move",
		"RUN git clone https://x.io/a":                                                                                                                 "warning: git fetches whatever is on the default branch on the day of the build",
	} {
		found, err := Check(t.Context(), Input{Name: "Dockerfile", Dockerfile: []byte("FROM a\n" + dockerfile)})
		if err != nil || len(found) != 1 || string(found[0].Level)+": "+found[0].Message != want {
			t.Errorf("%s: %+v, %v", dockerfile, found, err)
		}
	}
}

// A finding has the line of its command, also in a long RUN.
func TestLines(t *testing.T) {
	const dockerfile = "FROM a\nARG V=1.2\nRUN apt-get install -y curl && \\\n  # curl below\n  curl -o /a \\\n    https://x.io/a-$V && \\\n  curl -o /b https://x.io/b\n"
	got := found(t, Input{Dockerfile: []byte(dockerfile)})
	if diff := cmp.Diff([]string{"5 unchecked-download", "7 unchecked-download"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIgnore(t *testing.T) {
	for dockerfile, want := range map[string]int{
		"FROM a\nRUN curl x://a | sh\n": 1,
		"FROM a\n# kedge: ignore=piped-shell the vendor's only way\nRUN curl x://a | sh\n": 0,
		"FROM a\n# hadolint ignore=DL4006\nRUN curl x://a | sh\n":                          1, // that is about pipefail
		"FROM a\n# hadolint ignore=DL3005,SC2086\nRUN apt-get dist-upgrade\n":              0,
		"FROM a\n# kedge: ignore=git-branch\nRUN curl x://a | sh\n":                        1,
		"FROM a\n# kedge: ignore=git-branch,piped-shell both\nRUN curl x://a |\\\n  sh\n":  0,
		"FROM a\n# kedge: ignore=piped-shell here\nRUN true\nRUN curl x://a | sh\n":        1,
	} {
		if got := found(t, Input{Dockerfile: []byte(dockerfile)}); len(got) != want {
			t.Errorf("%q: %q", dockerfile, got)
		}
	}
	if got := found(t, Input{Dockerfile: []byte("FROM a\nRUN curl x://a | sh\n"), DownloadsLocked: true}); len(got) != 0 {
		t.Errorf("locked downloads: %q", got)
	}
}

func TestApply(t *testing.T) {
	const dockerfile = "FROM a\nCOPY . .\nRUN npm install --no-audit \\\n && pnpm install\n"
	findings, err := Check(t.Context(), Input{
		Dockerfile: []byte(dockerfile),
		Context:    folder(map[string]string{"package.json": "{}", "package-lock.json": "{}", "pnpm-lock.yaml": ""}),
	})
	if err != nil {
		t.Fatal(err)
	}
	got, made := Apply([]byte(dockerfile), findings)
	const want = "FROM a\nCOPY . .\nRUN npm ci --no-audit \\\n && pnpm install --frozen-lockfile\n"
	if string(got) != want || made != 2 {
		t.Errorf("%d edits:\n%s\n%+v", made, got, findings)
	}
}

// A wrong Dockerfile is an error with its line.
func TestSyntaxError(t *testing.T) {
	for dockerfile, want := range map[string]string{"": "file with no instructions", "ARG A=1\n": "no build stage", "FROM a\nRUN <<E\n": "unterminated heredoc"} {
		_, err := Check(t.Context(), Input{Name: "Dockerfile", Dockerfile: []byte(dockerfile)})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "Dockerfile") {
			t.Errorf("%q: %v", dockerfile, err)
		}
	}
}

// A lockfile fits its manifest, or why not.
func TestFits(t *testing.T) {
	const (
		pnpm     = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        specifier: ^1.0.0\n        version: 1.2.3\n    devDependencies:\n      p:\n        specifier: '1'\n        version: 1.0.0\n"
		composer = `{"packages": [{"name": "a/b", "replace": {"a/c": "*"}, "provide": []}], "packages-dev": [{"name": "D/e"}]}`
		poetry   = "[[package]]\nname = \"requests\"\n[[package]]\nname = \"zope-interface\"\n"
		uv       = "version = 1\n[[package]]\nname = \"my-app\"\nsource = { virtual = \".\" }\n[package.metadata]\nrequires-dist = [{ name = \"requests\", specifier = \">=2\" }, { name = \"rich\", marker = \"extra == 'cli'\" }]\n[[package]]\nname = \"requests\"\n"
	)
	for _, test := range []struct {
		fits                       func(manifest, lock []byte) string
		manifest, lock, want, name string
	}{
		{pnpmFits, `{"dependencies": {"a": "^1.0.0"}, "peerDependencies": {"p": "1"}}`, pnpm, "", "pnpm"},
		{pnpmFits, `{"dependencies": {"a": "^1.0.0", "c": "1"}, "devDependencies": {"p": "1"}}`, pnpm, "it lacks c", "pnpm"},
		{pnpmFits, `{"dependencies": {"a": "^2.0.0"}, "devDependencies": {"p": "1"}}`, pnpm, "it was made for a ^1.0.0, not ^2.0.0", "pnpm"},
		{pnpmFits, `{"dependencies": {"a": "^1.0.0"}}`, pnpm, "it still has p", "pnpm"},
		{pnpmFits, `{"dependencies": {"a": "^2.0.0"}}`, pnpm + "overrides:\n  a: ^1.0.0\n", "", "pnpm"},
		{pnpmFits, `{"dependencies": {"a": "^2.0.0"}}`, "lockfileVersion: 5.4\nspecifiers:\n  a: ^1.0.0\n", "", "pnpm"},
		{composerFits, `{"require": {"php": ">=8", "A/b": "1", "a/c": "*"}, "require-dev": {"d/e": "*"}}`, composer, "", "Composer"},
		{composerFits, `{"require": {"a/b": "1", "a/d": "*"}}`, composer, "it lacks a/d", "Composer"},
		{composerFits, `{"require": []}`, composer, "", "Composer"},
		{poetryFits, "[tool.poetry.dependencies]\npython = \"^3.9\"\nRequests = \"^2\"\n\"zope.interface\" = {version = \"*\"}\ntomli = {version = \"*\", python = \"<3.11\"}\n", poetry, "", "Poetry"},
		{poetryFits, "[project]\ndependencies = [\"requests>=2\", \"tomli ; python_version < '3'\"]\n[tool.poetry.group.dev.dependencies]\npytest = \"*\"\n", poetry, "it lacks pytest", "Poetry"},
		{uvFits, "[project]\nname = \"My_App\"\ndependencies = [\"requests[socks]>=2\"]\n[project.optional-dependencies]\ncli = [\"Rich\"]\nall = [\"my-app[cli]\"]\n", uv, "", "uv"},
		{uvFits, "[project]\nname = \"my-app\"\ndependencies = [\"requests>=2\", \"httpx\", \"rich\"]\n", uv, "it lacks httpx", "uv"},
		{uvFits, "[project]\nname = \"my-app\"\ndependencies = [\"requests>=2\"]\n", uv, "it still has rich", "uv"},
		{uvFits, "[project]\nname = \"my-app\"\ndynamic = [\"dependencies\"]\n", uv, "", "uv"},
	} {
		if got := test.fits([]byte(test.manifest), []byte(test.lock)); got != test.want {
			t.Errorf("%s: %q, want %q\n%s", test.name, got, test.want, test.manifest)
		}
		for _, other := range []string{"", "[", "{", "[]", "{}\n---\n"} {
			if got := test.fits([]byte(other), []byte(test.lock)); got != "" && !strings.HasPrefix(got, "it still has") {
				t.Errorf("%s: a damaged manifest: %q", test.name, got)
			}
			if got := test.fits([]byte(test.manifest), []byte(other)); got != "" && !strings.HasPrefix(got, "it lacks") {
				t.Errorf("%s: a damaged lockfile: %q", test.name, got)
			}
		}
	}
}

// The builds that a Jenkinsfile, a workflow or a GitLab job asks for, in the styles of their documentation.
func TestScriptedBuilds(t *testing.T) {
	for _, test := range []struct {
		name, text string
		read       func([]byte) []ciBuild
		want       []string // LINE IMAGES TARGET, and whether it is pushed
	}{
		{"declarative", `pipeline {
    agent any
    environment { REGISTRY = 'registry.example.com' }
    stages {
        stage('Build') {
            steps {
                sh """
                    docker build --target dev \\
                        -t ${env.REGISTRY}/app:${env.BUILD_ID} .
                    docker push ${env.REGISTRY}/app:${env.BUILD_ID}
                """
            }
        }
        stage('Test') {
            when { expression { params.RUN ==~ /(?i)(Y|it's)/ } }
            steps {
                sh(script: 'docker build --target test .', returnStatus: true)
                sh 'docker push other'
            }
        }
    }
    post { always { junit '**/*.xml' } }
}
`, jenkinsBuilds, []string{"7 [$env_REGISTRY/app:$env_BUILD_ID] dev pushed", "17 [] test"}},
		{"multi-line", `node {
    checkout scm
    def tag = sh returnStdout: true, script: 'git describe'
    sh label: "build it's image", script: '''
        set -e
        docker build --target=dev -t x/app:$TAG .
        docker push x/app:$TAG
    '''
    stage('Other') { dir('other') { sh 'docker build --target dev --push .' } }
    echo "docker build --push ${sh(script: 'true', returnStdout: true)}"
}
`, jenkinsBuilds, []string{"4 [x/app:$TAG] dev pushed"}},
		{"docker.build", `node {
    checkout scm
    docker.withRegistry('https://registry.example.com', 'credentials-id') {
        def customImage = docker.build("my-image:${env.BUILD_ID}", "--target dev .")
        customImage.inside { sh 'make test' }
        customImage.push()
        customImage.push('latest')
    }
    def testImage = docker.build("test-image", "./dockerfiles/test")
    testImage.push()
    def app = docker.build 'paren-less'
    docker.build("plain").push('x')
    docker.build("computed", args)
    dir('sub') { docker.build("sub").push() }
}
`, jenkinsBuilds, []string{"4 [my-image:${env_BUILD_ID}] dev pushed", "12 [plain]  pushed"}},
		{"agent dockerfile", `pipeline {
    agent {
        dockerfile {
            filename 'Dockerfile.build'
            dir 'build'
            additionalBuildArgs '--build-arg version=1.0.2 --target dev'
        }
    }
    stages { stage('x') { steps { sh 'docker build -t r/x --push .' } } }
}
`, jenkinsBuilds, []string{"9 [r/x]  pushed"}},
		{"GitHub", `jobs:
  a:
    steps:
    - run: |
        docker build --target dev -t ghcr.io/${{ github.repository }}:x .
        docker push ghcr.io/${{github.repository}}:x
    - run: cd x
    - run: docker build .
`, yamlBuilds(workflowBuilds), []string{"4 [ghcr.io/$github_repository:x] dev pushed", "8 [] "}},
		{"GitLab", `build:
  before_script: [docker login]
  script:
  - docker build -t $CI_REGISTRY_IMAGE:a .
  - cd sub
  - docker build -t $CI_REGISTRY_IMAGE:b .
  - docker push $CI_REGISTRY_IMAGE:a
`, yamlBuilds(gitlabBuilds), []string{"4 [$CI_REGISTRY_IMAGE:a]  pushed"}},
	} {
		var got []string
		for _, b := range test.read([]byte(test.text)) {
			pushed := ""
			if b.pushed {
				pushed = " pushed"
			}
			got = append(got, fmt.Sprint(b.line, " ", b.images, " ", b.target, pushed))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// A minified script that git tracks is a remark.
func TestMinified(t *testing.T) {
	in := Input{Dockerfile: []byte("FROM a\nCOPY . /"), Context: folder(map[string]string{"a.min.js": strings.Repeat("a(function(){b=1;});", 400)})}
	for tracked, want := range map[bool]Level{true: Info, false: Warning} {
		in.Tracked = map[string]bool{"a.min.js": tracked}
		findings, err := Check(t.Context(), in)
		if err != nil || len(findings) != 1 || findings[0].Level != want {
			t.Errorf("tracked %v: %+v, %v", tracked, findings, err)
		}
	}
}

// TestLargeJenkinsfile would take half an hour if every build had the whole file read again.
// A part of a file could lack what the rest has: lint fails instead, if a rule needs the file.
func TestTooLarge(t *testing.T) {
	dockerfile := []byte("FROM a\nCOPY package.json package-lock.json ./\nRUN npm ci")
	for name, size := range map[string]int{"package-lock.json": maxManifest, "Jenkinsfile": maxBuildFile, "other.json": maxManifest} {
		for _, more := range []int{0, 1} {
			files := map[string]string{"package.json": `{"dependencies":{"a":"^1.0.0"}}`, "package-lock.json": "{}"}
			files[name] = strings.Repeat(" ", size+more)
			_, err := Check(t.Context(), Input{Name: "Dockerfile", Dockerfile: dockerfile, Dir: "src", Context: folder(files), Now: now})
			want := "<nil>"
			if more > 0 && name != "other.json" {
				want = fmt.Sprintf("%q is larger than %d MiB: lint reads no more", "src/"+name, size>>20)
			}
			if fmt.Sprint(err) != want {
				t.Errorf("%s, %d bytes: %v, not %s", name, len(files[name]), err, want)
			}
		}
	}
}

func TestLargeJenkinsfile(t *testing.T) {
	const build = "x = docker.build('a')\nsh 'docker build .'\n"
	builds := jenkinsBuilds([]byte(strings.Repeat(build, maxBuildFile/len(build))))
	if len(builds) != 2*(maxBuildFile/len(build)) || builds[1].line != 3 {
		t.Errorf("%d builds, the second in line %d", len(builds), builds[1].line)
	}
}

func FuzzBuildFiles(f *testing.F) {
	f.Add([]byte("variable \"R\" { default = null }\ntarget \"a\" {\n  inherits = [\"a\"] // x\n  args = { V: 1.5, \"W\" = -1 }\n  tags = [for t in X : \"${t}:%{ if y }1%{ endif }\"]\n}\n"))
	f.Add([]byte("def x = docker.build(\"a:${b {}}\", '-t y .')\nx.push()"))
	f.Add([]byte("node { dir('x') { sh(label: 'a', script: \"\"\"docker build \\\n -t x .\"\"\") } /* } */ }"))
	f.Add([]byte("services: {a: {build: ., image: x}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, kind := range ciFiles {
			for _, b := range kind.read(text) {
				if b.line < 0 || b.line > strings.Count(string(text), "\n")+1 {
					t.Errorf("%s: line %d", kind.pattern, b.line)
				}
			}
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("FROM a AS b\nARG X\nRUN --mount=type=bind,target=. npm i | sh\nCOPY --from=b . .\nONBUILD RUN git clone $X", "package.json", "*.json")
	f.Fuzz(func(t *testing.T, dockerfile, name, ignore string) {
		in := Input{Dockerfile: []byte(dockerfile), Ignore: []string{ignore}, Now: now}
		if fs.ValidPath(name) && name != "." {
			in.Context = folder(map[string]string{name: "{}"})
		}
		findings, err := Check(t.Context(), in)
		if err != nil {
			return
		}
		for _, f := range findings {
			if f.Line > strings.Count(dockerfile, "\n")+1 || f.Message == "" {
				t.Errorf("%+v", f)
			}
		}
	})
}
