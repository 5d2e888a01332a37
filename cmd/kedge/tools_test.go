//go:build downloads

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

// A tool is a program whose downloads are recorded and replayed.
type tool struct {
	name string
	run  string // of the Dockerfile, after FROM tools
	// public says that it downloads from the registry on the Internet, which does not change for a test.
	public bool
	// refused is what kedge says of requests that no record holds.
	refused string
}

// tools are tried by TestTools, and docs/hermetic.md says so.
var tools = []tool{
	{name: "apt", public: true, run: `RUN apt-get update && apt-get install -y --no-install-recommends hello`},
	{name: "apt-https", run: `RUN echo 'deb [trusted=yes] https://apt.example.com ./' >/etc/apt/sources.list.d/x.list && apt-get update -o Dir::Etc::sourcelist=sources.list.d/x.list -o Dir::Etc::sourceparts=- && apt-get install -y kedgedep`},
	{name: "npm-ci", public: true, run: `RUN echo '{"name":"x","version":"1.0.0","dependencies":{"left-pad":"1.3.0"}}' >package.json \
 && echo '{"name":"x","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"x","version":"1.0.0","dependencies":{"left-pad":"1.3.0"}},"node_modules/left-pad":{"version":"1.3.0"}}}' >package-lock.json && npm ci`},
	{name: "npm-install", public: true, run: `RUN npm install is-odd@3.0.1 && node -e 'require("is-odd")'`},
	{name: "yarn", public: true, run: `RUN echo '{}' >package.json && yarn add is-odd@3.0.1 && node -e 'require("is-odd")' && yarn cache clean`},
	{name: "yarn-4", public: true, run: `RUN echo '{"name":"x"}' >package.json && echo 'nodeLinker: node-modules' >.yarnrc.yml && touch yarn.lock && yarn4 add is-odd@3.0.1 && node -e 'require("is-odd")' && rm -r .yarn /root/.yarn`},
	{name: "pnpm", public: true, run: `RUN echo '{}' >package.json && pnpm add is-odd@3.0.1 && node -e 'require("is-odd")' && rm -r /root/.local/state`},
	{name: "go", public: true, run: `RUN go mod init x && printf 'package main\nimport "golang.org/x/text/language"\nfunc main() { println(language.English.String()) }\n' >main.go && go mod tidy && go build -o x . && ./x && rm -r /root/.cache /root/.config`},
	{name: "go-env", public: true, run: `ENV GOFLAGS=-mod=mod GOPROXY=https://proxy.golang.org
USER nobody
WORKDIR /tmp/x
ENV HOME=/tmp
RUN go mod init x && go get golang.org/x/mod@v0.20.0 && rm -r /tmp/.cache /tmp/.config`},
	{name: "node-fetch", run: `RUN for how in 'fetch("https://files.example.com/plain")' 'fetch("http://files.example.com/plain")'; do node -e "$how.then(r => r.text()).then(t => { if (!t.startsWith('the content')) throw t; console.log(t) })" >>/got || exit; done
RUN NODE_USE_ENV_PROXY=1 node -e 'fetch("https://files.example.com:8443/plain").then(r => r.text()).then(t => require("fs").writeFileSync("/got2", t))'
RUN node -e 'require("https").get("https://files.example.com/plain", r => r.pipe(require("fs").createWriteStream("/got3")))'
RUN test "$(cat /got2)" = "$(cat /got3)"`},
	{name: "node-fetch-user", run: `USER nobody
RUN node -e 'fetch("https://files.example.com/plain").then(r => r.text()).then(t => require("fs").writeFileSync("/tmp/got", t))'`},
	{name: "pip", run: `RUN pip install --index-url https://pypi.example.com/simple kedgedep && python3 -c 'import kedgedep'
RUN pip download -d /wheels --index-url http://pypi.example.com/simple --trusted-host pypi.example.com kedgedep`},
	{name: "python", run: `RUN python3 -c 'import requests; r = requests.get("https://files.example.com/redirect"); r.raise_for_status(); open("/got", "w").write(r.text)'
RUN python3 -c 'import urllib.request as u; open("/got2", "wb").write(u.urlopen("https://files.example.com/chunked").read())'`},
	{name: "curl", run: `RUN curl -sSfL https://files.example.com/redirect -o /a && curl -sSf -r 4-10 https://files.example.com/plain | tee /b | grep -x content
RUN curl -sSf --compressed https://files.example.com/gzip | grep -x 'packed .' && curl -sSf https://files.example.com/chunked -o /c && curl -sSf http://files.example.com/slow -o /d && grep slow /d
RUN curl -sS -o /e -w '%{http_code}' https://files.example.com/missing | grep 404; ! curl -sSf https://files.example.com/missing
RUN ! curl -sSf https://files.example.com/cut -o /f && curl -sSf -C - https://files.example.com/large -o /g && sha256sum </g >/h && curl -sSfI https://files.example.com/large >/i
RUN curl -sSf https://files.example.com:8443/plain -o /j && curl -sSf --http2 https://files.example.com/plain --next http://files.example.com/plain | grep content`},
	{name: "wget", run: `RUN wget -q https://files.example.com/redirect -O /a && wget -qc https://files.example.com/large -O /b && ! wget -q --tries=1 https://files.example.com/missing
RUN wget -qO- --compression=auto https://files.example.com/gzip | grep -x 'packed .' && wget -qN http://files.example.com/plain && wget -qN http://files.example.com/plain; ! wget -q --tries=1 https://files.example.com/cut`},
	{name: "cargo", run: `RUN cargo init -q --vcs none --name x && printf '[source.crates-io]\nreplace-with = "here"\n[source.here]\nregistry = "sparse+https://crates.example.com/index/"\n' >/root/config.toml && mkdir -p .cargo && mv /root/config.toml .cargo/ \
 && printf 'kedgedep = "1"\n' >>Cargo.toml && echo 'fn main() { println!("{}", kedgedep::VERSION) }' >src/main.rs && cargo build -q && ./target/debug/x >/got && rm -r target /root/.cargo/registry/index`},
	{name: "gem", run: `RUN gem install --no-document --clear-sources --source https://gems.example.com kedgedep && ruby -e 'require "kedgedep"; p KEDGEDEP' >/got`},
	{name: "bundler", run: `RUN printf 'source "https://gems.example.com"\ngem "kedgedep"\n' >Gemfile && bundle install && bundle exec ruby -e 'require "kedgedep"; p KEDGEDEP' >/got && rm -r /root/.bundle`},
	{name: "composer", run: `RUN echo '{"repositories":[{"type":"composer","url":"https://composer.example.com"},{"packagist.org":false}],"require":{"kedge/dep":"1.0.0"}}' >composer.json && COMPOSER_ALLOW_SUPERUSER=1 composer install --no-interaction && cat vendor/kedge/dep/version`},
	{name: "maven", run: `RUN mkdir -p /root/.m2 && echo '<settings><mirrors><mirror><id>m</id><mirrorOf>*</mirrorOf><url>https://maven.example.com/maven2</url></mirror></mirrors></settings>' >/root/.m2/settings.xml \
 && echo '<project><modelVersion>4.0.0</modelVersion><parent><groupId>test.kedge</groupId><artifactId>parent</artifactId><version>1.0</version><relativePath/></parent><artifactId>x</artifactId><packaging>pom</packaging></project>' >pom.xml && mvn -B -q validate && cat /root/.m2/repository/test/kedge/parent/1.0/parent-1.0.pom`},
	{name: "java", run: `RUN echo 'import java.net.*; import java.net.http.*; import java.nio.file.*; class Get { public static void main(String[] a) throws Exception { \
  var u = URI.create("https://files.example.com/plain"); \
  Files.write(Path.of("/got"), u.toURL().openStream().readAllBytes()); \
  var r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(u).build(), HttpResponse.BodyHandlers.ofFile(Path.of("/got2"))); if (r.statusCode() != 200) throw new Exception(); } }' >Get.java && java Get.java && cmp /got /got2
ENV JAVA_TOOL_OPTIONS=-Xmx256m
RUN sed -i 's|https://files.example.com|&:8443|' Get.java && java Get.java`},
	{name: "perl", run: `RUN perl -MLWP::UserAgent -e '$r = LWP::UserAgent->new(env_proxy => 1)->get("https://files.example.com/redirect"); die $r->status_line unless $r->is_success; print $r->content' >/got
RUN perl -MHTTP::Tiny -e '$r = HTTP::Tiny->new(verify_SSL => 1)->get("https://files.example.com/plain"); die $r->{content} unless $r->{success}; print $r->{content}' >/got2 && perl -MLWP::Simple -e 'getprint "https://files.example.com/plain"' >/got3 && cmp /got2 /got3`},
	{name: "php", run: `RUN php -r 'file_put_contents("/got", file_get_contents("https://files.example.com/plain")) or exit(1);'`},
	{name: "ruby", run: `RUN ruby -ropen-uri -e 'File.write("/got", URI.open("https://files.example.com/redirect").read)'`},
	{name: "git", run: `RUN git clone -q https://git.example.com/dep.git /dep && cat /dep/version && rm -r /dep/.git`},
	{name: "git-smart", run: `RUN git clone -q https://smart.example.com/dep.git /dep || git clone -q https://git.example.com/dep.git /dep; cat /dep/version && rm -r /dep/.git`,
		refused: `POST https://smart.example.com/dep.git/git-upload-pack`},
}

// toolHosts are those of the tools' servers.
var toolHosts = []string{"apt", "pypi", "files", "crates", "gems", "composer", "maven", "git", "smart"}

// origins are the servers that the tools download from: one address with the ports of http and https, and another port.
type origins struct {
	*httptest.Server // with TLS
	addr             string
	dir              atomic.Pointer[string] // with a folder for each host
	asked            atomic.Int64
}

func newOrigins(t *testing.T) *origins {
	t.Helper()
	o := &origins{addr: fmt.Sprintf("127.77.%d.%d", os.Getpid()>>8&255, os.Getpid()&127+1)}
	listen := func(port string) net.Listener {
		l, err := net.Listen("tcp", o.addr+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	start := func(port string, tls bool) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(o.serve))
		s.Listener.Close()
		s.Listener = listen(port)
		if tls {
			s.EnableHTTP2 = true
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	start("80", false)
	start("8443", true)
	o.Server = start("443", true)
	return o
}

func (o *origins) serve(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	host, _, _ := strings.Cut(r.Host, ":")
	dir := *o.dir.Load()
	flush := func(pause time.Duration, parts ...string) {
		for _, part := range parts {
			io.WriteString(w, part)
			w.(http.Flusher).Flush()
			time.Sleep(pause)
		}
	}
	plain, _ := os.ReadFile(filepath.Join(dir, "files.example.com", "plain"))
	switch {
	case host == "smart.example.com":
		backend, _ := exec.Command("git", "--exec-path").Output()
		(&cgi.Handler{
			Path: filepath.Join(strings.TrimSpace(string(backend)), "git-http-backend"),
			Env:  []string{"GIT_HTTP_EXPORT_ALL=1", "GIT_PROJECT_ROOT=" + filepath.Join(dir, "git.example.com"), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		}).ServeHTTP(w, r)
	case r.URL.Path == "/redirect":
		http.Redirect(w, r, "https://files.example.com/plain?from=redirect", http.StatusFound)
	case r.URL.Path == "/chunked":
		flush(0, "one ", "two ", string(plain))
	case r.URL.Path == "/slow":
		flush(300*time.Millisecond, "slow ", "slow ", string(plain))
	case r.URL.Path == "/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed("packed " + string(plain[len(plain)-1]) + "\n"))
	case r.URL.Path == "/cut":
		w.Header().Set("Content-Length", "1000")
		flush(0, "cut")
		panic(http.ErrAbortHandler)
	default:
		http.FileServerFS(os.DirFS(filepath.Join(dir, host))).ServeHTTP(w, r)
	}
}

// A workshop is what the tools need: builders with and without a network, their image, and servers.
type workshop struct {
	on       []string // flags: a builder
	env      []string
	ca       string
	servers  *origins
	versions [2]string // folders of what the servers have
	away     *closed
}

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	registry, shared := testenv.Shared(t)
	testenv.DebianRelease(t, registry, "trixie")
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	w := &workshop{on: []string{"--builder", shared.Addr}, env: []string{"HOME=" + t.TempDir()}}
	data := filepath.Join("testdata", "tools")
	base := write(t, map[string]string{"Dockerfile": read(t, filepath.Join(data, "base", "Dockerfile"))})
	w.kedge(t, "build", "--build-context", "go="+strings.TrimSpace(string(goroot)), "--push", "-t", registry.Ref("library/tools:latest"), base)
	tools, err := registry.Get(t, "library/tools:latest").Image()
	if err != nil {
		t.Fatal(err)
	}
	for _, as := range []string{"node:24-slim", "golang:1.26", "python:3-slim"} { // of the examples
		registry.Push(t, "library/"+as, tools)
	}
	packages := t.TempDir()
	if err := os.CopyFS(packages, os.DirFS(filepath.Join(data, "origin"))); err != nil {
		t.Fatal(err)
	}
	for i := range w.versions {
		w.versions[i] = filepath.Join(t.TempDir(), "www")
		w.kedge(t, "build", "--build-arg", fmt.Sprint("V=", i+1), "-o", w.versions[i], packages)
	}
	w.servers = newOrigins(t)
	w.servers.dir.Store(&w.versions[0])
	w.ca = trust(t, w.servers.Server)
	w.away = newClosed(t, w.env)
	return w
}

// kedge runs a verb on the builder that has a network.
func (w *workshop) kedge(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	return runKedge(t, w.env, exitOK, append(args, w.on...)...)
}

// lock records what the steps of dir download, from the servers of this test, too.
func (w *workshop) lock(t *testing.T, dir string, flags ...string) (stdout, stderr string) {
	t.Helper()
	args := append([]string{"lock", "--downloads", "--downloads-ca", w.ca, dir}, flags...)
	for _, host := range toolHosts {
		args = append(args, "--add-host", host+".example.com:"+w.servers.addr)
	}
	return w.kedge(t, args...)
}

// replay checks that the locked image of dir is the same on a builder that has never executed its steps, in a closed
// network. It returns the digest.
func (w *workshop) replay(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	once := w.servers.asked.Load()
	out, _ := w.kedge(t, append([]string{"verify", "--locked", dir}, flags...)...)
	want := digestOf(t, out)
	if w.away.reaches(t, w.servers.Server) {
		t.Fatal("the network is not closed")
	}
	if got := w.away.build(t, dir, flags...); got != want {
		t.Errorf("in a closed network: %s, not %s", got, want)
	}
	if n := w.servers.asked.Load() - once; n > 0 {
		t.Errorf("locked builds sent %d requests", n)
	}
	return want
}

// TestTools records what programs download, closes the network and replays it on a builder that has never executed the step:
// the image is the recorded one. Then the servers have other bytes. The locked image stays, and a refresh reports them.
func TestTools(t *testing.T) {
	w := newWorkshop(t)
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			w.servers.dir.Store(&w.versions[0])
			dir := write(t, map[string]string{"Dockerfile": "FROM tools\n" + tool.run + "\n"})
			_, errs := w.lock(t, dir)
			if tool.refused == "" && strings.Contains(errs, "kedge: warning: ") || !strings.Contains(errs, tool.refused) {
				t.Errorf("recording says %s", errs)
			}
			want := w.replay(t, dir)
			if tool.public {
				return
			}
			w.servers.dir.Store(&w.versions[1])
			out, _ := w.kedge(t, "build", "--locked", "--no-cache", dir)
			if got := digestOf(t, out); got != want {
				t.Errorf("after a change upstream: %s, not %s", got, want)
			}
			if out, _ = w.lock(t, dir, "--refresh"); !strings.Contains(out, "changed") {
				t.Errorf("a refresh does not report the change: %s", out)
			}
			if out, _ = w.kedge(t, "build", "--locked", dir); digestOf(t, out) == want {
				t.Error("the image after a refresh is the one before it")
			}
		})
	}
	w.servers.dir.Store(&w.versions[0])
	examples, err := filepath.Glob(filepath.Join(testenv.Repository(t), "examples", "hermetic-*"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(example)); err != nil {
				t.Fatal(err)
			}
			index := []string{"--build-arg", "PIP_INDEX_URL=https://pypi.example.com/simple"}
			w.lock(t, dir, index...)
			w.replay(t, dir, index...)
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func packed(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.Bytes()
}
