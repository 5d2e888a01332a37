package builder

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the format of Java's key stores has it
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/internal/format/jks"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/network/relay"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func served(t *testing.T, r *network.Record) *Downloads {
	t.Helper()
	cache, err := network.OpenCache(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	ca, err := network.OpenCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Downloads{Options: network.Options{Record: r, Cache: cache, CA: ca}}
}

var amd64 = llb.Platform(ocispec.Platform{OS: "linux", Architecture: "amd64"})

// rewritten returns the RUN steps of st as a job rewrites them, and the job.
func rewrittenRuns(t *testing.T, req *Request, pass Pass, st llb.State) (*job, []*pb.ExecOp) {
	t.Helper()
	g, err := graphOf(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	req.Lock = &lock.File{}
	j := newJob(nil, req, pass)
	def := &definition{parts: []part{{graph: g}}}
	if err := j.downloads.plan(t.Context(), j, def); err != nil {
		t.Fatal(err)
	}
	rw := j.newRewriter(def, pb.Caps.CapSet(nil))
	out, err := g.Rewrite(rw.edit)
	if err != nil || rw.err != nil {
		t.Fatal(err, rw.err)
	}
	var execs []*pb.ExecOp
	for _, data := range out.Def {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			t.Fatal(err)
		}
		if exec := op.GetExec(); exec != nil {
			execs = append(execs, exec)
		}
	}
	return j, execs
}

func socketID(exec *pb.ExecOp) string {
	for _, m := range exec.Mounts {
		if m.MountType == pb.MountType_SSH && m.Dest == relay.Socket {
			return m.SSHOpt.ID
		}
	}
	return ""
}

func TestRelayInSteps(t *testing.T) {
	st := llb.Image("debian", amd64).
		Run(llb.Shlex("curl http://a.test"), llb.AddEnv("SSL_CERT_FILE", "/mine"), llb.AddEnv("JAVA_TOOL_OPTIONS", "-Xmx1g"), llb.AddExtraHost("a.test", net.IPv4(10, 0, 0, 1)), llb.WithProxy(llb.ProxyEnv{HTTPProxy: "http://corporate.test"})).
		Run(llb.Shlex("make"), llb.Network(pb.NetMode_NONE)).
		Run(llb.Shlex("make all"), llb.Network(pb.NetMode_HOST)).Root()
	_, execs := rewrittenRuns(t, &Request{Downloads: served(t, &network.Record{})}, Pass{}, st)
	if len(execs) != 3 {
		t.Fatalf("%d steps", len(execs))
	}
	for i, exec := range execs {
		if exec.Network != pb.NetMode_NONE {
			t.Errorf("step %d has a network", i)
		}
		if relayed := exec.Meta.Args[0] == relay.Program; relayed != (i != 1) || (socketID(exec) != "") != relayed {
			t.Errorf("step %d: %q, socket %q", i, exec.Meta.Args, socketID(exec))
		}
	}
	first := execs[0]
	if first.Meta.ProxyEnv.HttpProxy != relay.Proxy || len(first.Meta.ExtraHosts) != 0 {
		t.Errorf("proxies %v, hosts %v", first.Meta.ProxyEnv, first.Meta.ExtraHosts)
	}
	if !slices.Contains(first.Meta.Env, "SSL_CERT_FILE=/mine") || slices.Contains(first.Meta.Env, "SSL_CERT_FILE="+relay.CertsPEM) || !slices.Contains(first.Meta.Env, "PIP_CERT="+relay.CertsPEM) {
		t.Errorf("environment %q", first.Meta.Env)
	}
	const java = "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=/dev/.kedge/ca.jks -Dhttp.proxyHost=127.107.101.100 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.107.101.100 -Dhttps.proxyPort=3128"
	if !slices.Contains(first.Meta.Env, java+" -Xmx1g") || !slices.Contains(execs[2].Meta.Env, java) {
		t.Errorf("environment %q, %q", first.Meta.Env, execs[2].Meta.Env)
	}
	// Without locked downloads a step stays as it is.
	_, plain := rewrittenRuns(t, &Request{}, Pass{}, st)
	if len(plain[0].Mounts) != 1 || plain[2].Network != pb.NetMode_HOST || plain[0].Meta.Args[0] != "curl" {
		t.Errorf("%v", plain[0])
	}
}

func TestNoRelay(t *testing.T) {
	g, err := graphOf(t.Context(), llb.Image("debian", llb.Platform(ocispec.Platform{OS: "linux", Architecture: "mips64le"})).Run(llb.Shlex("make")).Root())
	if err != nil {
		t.Fatal(err)
	}
	j := newJob(nil, &Request{Downloads: served(t, &network.Record{}), Lock: &lock.File{}}, Pass{})
	var none *RelayError
	if err := j.downloads.plan(t.Context(), j, &definition{parts: []part{{graph: g}}}); !errors.As(err, &none) || none.Architecture != "mips64le" {
		t.Errorf("%v", err)
	}
}

// TestStepKeys looks at what each step's key depends on, and at where its answers come from.
func TestStepKeys(t *testing.T) {
	st := llb.Image("debian", amd64).Run(llb.Shlex("curl http://a.test")).Run(llb.Shlex("make")).Root()
	record := &network.Record{}
	d := served(t, record)
	modes := func(req *Request, pass Pass) (modes []stepMode, ids []string) {
		j, execs := rewrittenRuns(t, req, pass, st)
		for _, exec := range execs {
			id := socketID(exec)
			step, ok := newSockets(j.downloads, nil).step(id)
			if !ok {
				t.Fatalf("no step has the socket %q", id)
			}
			modes, ids = append(modes, j.downloads.keys[step.ID].mode), append(ids, id)
		}
		return modes, ids
	}
	check := func(what string, got []stepMode, want ...stepMode) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	got, added := modes(&Request{Downloads: d}, Pass{})
	check("nothing is recorded", got, recorded, quiet)
	got, _ = modes(&Request{Downloads: d, Locked: true}, Pass{})
	check("nothing may be recorded", got, unknown, quiet)
	all := *d
	all.All = true
	got, again := modes(&Request{Downloads: &all}, Pass{})
	check("everything is recorded", got, recorded, recorded)
	if again[0] == added[0] {
		t.Error("two recordings have one cache key")
	}

	// Once the record knows the steps, keys depend on their own answers alone.
	id := func(socket string) string {
		rest, _ := strings.CutPrefix(socket, socketPrefix)
		id, _, _ := strings.Cut(rest, "-")
		return id
	}
	curl, make := id(again[0]), id(again[1])
	record.AddStep(network.Step{ID: curl, Name: "curl"})
	_, before := modes(&Request{Downloads: d}, Pass{})
	if before[1] != added[1] {
		t.Errorf("a step that downloads nothing has another key once it is known: %q, %q", before[1], added[1])
	}
	record.AddStep(network.Step{ID: make, Name: "make"})
	add := func(url, step string) {
		if _, err := record.Add(network.Entry{Method: http.MethodHead, URL: url, Status: 200, Steps: []string{step}}); err != nil {
			t.Fatal(err)
		}
	}
	add("http://a.test/", curl)
	got, after := modes(&Request{Downloads: d, Locked: true}, Pass{})
	check("the steps are known", got, replayed, replayed)
	if after[0] == before[0] || after[1] != before[1] {
		t.Errorf("keys before %q, after %q", before, after)
	}
	// The second pass of a verification uses the same record.
	got, second := modes(&Request{Downloads: &all}, Pass{salt: 1 << 10, first: &Result{Resolution: Resolution{Lock: &lock.File{}}}})
	check("the second pass", got, replayed, replayed)
	if !slices.Equal(second, after) {
		t.Errorf("keys %q, in the second pass %q", after, second)
	}
}

// TestStepIDs compares the IDs of equal instructions: by stage and by number, and not by line.
func TestStepIDs(t *testing.T) {
	plan := func(text string) map[string]string {
		parsed, err := frontend.Parse("Dockerfile", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		j := newJob(nil, &Request{Downloads: served(t, &network.Record{}), Lock: &lock.File{}, Parsed: parsed}, Pass{})
		sm := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(text))
		st := llb.Image("debian", amd64)
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "RUN ") {
				at := &pb.Range{Start: &pb.Position{Line: int32(i + 1)}, End: &pb.Position{Line: int32(i + 1)}} //nolint:gosec // a few lines
				st = st.Run(llb.Args([]string{line, text, string(rune('a' + i))}), sm.Location([]*pb.Range{at})).Root()
			}
		}
		g, err := graphOf(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.downloads.plan(t.Context(), j, &definition{parts: []part{{graph: g}}}); err != nil {
			t.Fatal(err)
		}
		ids := map[string]string{}
		for _, s := range j.downloads.steps {
			ids[s.ID] = s.Name
		}
		return ids
	}
	one := plan("FROM debian AS a\nRUN x\nRUN x\nFROM debian\nRUN x\n")
	if len(one) != 3 {
		t.Errorf("%v", one)
	}
	moved := plan("# a comment\nFROM debian AS a\nRUN y\nRUN x\n\nRUN x\nFROM debian\nRUN x\n")
	for id, name := range one {
		if moved[id] != name {
			t.Errorf("%q has another ID after an edit elsewhere", name)
		}
	}
}

func TestKeyStore(t *testing.T) {
	d := served(t, &network.Record{})
	block, _ := pem.Decode(d.CA.PEM())
	store := keyStore(d.CA.PEM())
	if !bytes.Contains(store, block.Bytes) || len(store) < len(block.Bytes)+sha1.Size {
		t.Error("the certificate is not in the key store")
	}
	if _, err := jks.Parse(store); err != nil {
		t.Error(err)
	}
	if keyStore([]byte("no certificate")) != nil {
		t.Error("a key store without a certificate")
	}
}

func TestAgain(t *testing.T) {
	req := &Request{Downloads: &Downloads{Asked: map[string]bool{"a": true}}}
	asked := &AskedError{Steps: []network.Step{{ID: "b"}}}
	again, ok := Again(req, asked, 1)
	if !ok || !again.Downloads.Asked["a"] || !again.Downloads.Asked["b"] || req.Downloads.Asked["b"] {
		t.Errorf("%v, %v, from %v", again.Downloads.Asked, ok, req.Downloads.Asked)
	}
	stranded := &StrandedError{errors.New("failed")}
	for attempt, want := range map[int]bool{1: true, 2: false} {
		if _, ok := Again(req, stranded, attempt); ok != want {
			t.Errorf("attempt %d: %v", attempt, ok)
		}
	}
	if _, ok := Again(req, fmt.Errorf("solve: %w", &network.RestoredError{}), 2); !ok {
		t.Error("a build that got a part of a damaged body does not begin again")
	}
	for _, err := range []error{nil, errors.New("failed"), &network.NotLockedError{}, &network.MissingError{}} {
		if _, ok := Again(req, err, 1); ok {
			t.Errorf("%v begins again", err)
		}
	}
}

// A pipe is a stream whose messages go through channels.
type pipe struct {
	grpc.ServerStream
	ctx     context.Context
	in, out chan []byte
}

func (p *pipe) Context() context.Context { return p.ctx }

func (p *pipe) SendMsg(m any) error {
	select {
	case p.out <- bytes.Clone(m.(*sshforward.BytesMessage).Data):
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) RecvMsg(m any) error {
	select {
	case data, ok := <-p.in:
		if !ok {
			return io.EOF
		}
		m.(*sshforward.BytesMessage).Data = append(m.(*sshforward.BytesMessage).Data[:0], data...)
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) Send(m *sshforward.BytesMessage) error { return p.SendMsg(m) }

func (p *pipe) Recv() (*sshforward.BytesMessage, error) {
	m := &sshforward.BytesMessage{}
	return m, p.RecvMsg(m)
}

func newPipe(t *testing.T, id string) *pipe {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(sshforward.KeySSHID, id))
	return &pipe{ctx: ctx, in: make(chan []byte, 16), out: make(chan []byte, 1)}
}

// TestStreamConn writes much in small pieces: everything arrives, in few messages, also after Close.
func TestStreamConn(t *testing.T) {
	p := newPipe(t, "")
	c := newStreamConn(p, []byte("first"))
	p.in <- []byte("second")
	got := make([]byte, 11)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "firstsecond" {
		t.Errorf("%q, %v", got, err)
	}
	// The deadline of a read counts: net/http needs it.
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(got); !isTimeout(err) {
		t.Errorf("%v", err)
	}
	const pieces, piece = 5000, 1000
	go func() {
		for i := range pieces {
			if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, piece)); err != nil {
				t.Error(err)
			}
		}
		c.Close()
	}()
	n, messages := 0, 0
	for n < pieces*piece {
		data := <-p.out
		if len(data) > maxMessage {
			t.Errorf("a message of %d bytes", len(data))
		}
		for i, b := range data {
			if b != byte((n+i)/piece) {
				t.Fatalf("byte %d is %d", n+i, b)
			}
		}
		n, messages = n+len(data), messages+1
		time.Sleep(time.Millisecond)
	}
	if messages > pieces/4 {
		t.Errorf("%d messages", messages)
	}
	<-c.sent
	if _, err := c.Write([]byte("late")); err == nil {
		t.Error("a closed connection is written to")
	}
}

// TestStreamConnReadFrom sends readers of all sizes, between writes.
func TestStreamConnReadFrom(t *testing.T) {
	p := newPipe(t, "")
	c := newStreamConn(p, nil)
	var want bytes.Buffer
	for i, size := range []int{0, 1, 1000, maxMessage - 1, maxMessage, 2*maxMessage + 1, 3} {
		want.WriteString("head")
		want.Write(bytes.Repeat([]byte{byte(i)}, size))
	}
	go func() {
		defer c.Close()
		for i, size := range []int{0, 1, 1000, maxMessage - 1, maxMessage, 2*maxMessage + 1, 3} {
			if _, err := c.Write([]byte("head")); err != nil {
				t.Error(err)
			}
			body := io.Reader(bytes.NewReader(bytes.Repeat([]byte{byte(i)}, size)))
			switch i % 3 {
			case 1:
				body = io.LimitReader(io.MultiReader(body, iotest.ErrReader(errors.New("beyond the limit"))), int64(size))
			case 2:
				body = iotest.HalfReader(body)
			}
			if n, err := c.ReadFrom(body); err != nil || n != int64(size) {
				t.Errorf("%d of %d bytes, %v", n, size, err)
			}
		}
	}()
	var got bytes.Buffer
	for got.Len() < want.Len() {
		data := <-p.out
		if len(data) > maxMessage {
			t.Errorf("a message of %d bytes", len(data))
		}
		got.Write(data)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("other bytes arrive than were sent")
	}
	<-c.sent
	if _, err := c.ReadFrom(strings.NewReader("late")); err == nil {
		t.Error("a closed connection is written to")
	}
	broken := errors.New("broken")
	if _, err := newStreamConn(newPipe(t, ""), nil).ReadFrom(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

type agents struct {
	sshforward.UnimplementedSSHServer
}

func (agents) Register(*grpc.Server) {}

func (agents) CheckAgent(_ context.Context, req *sshforward.CheckAgentRequest) (*sshforward.CheckAgentResponse, error) {
	if req.ID == "mine" {
		return &sshforward.CheckAgentResponse{}, nil
	}
	return nil, errors.New("no such agent")
}

func (agents) ForwardAgent(stream sshforward.SSH_ForwardAgentServer) error {
	return stream.Send(&sshforward.BytesMessage{Data: []byte("agent")})
}

// TestSockets has the user's agents beside kedge's own sockets, and answers a step.
func TestSockets(t *testing.T) {
	record := &network.Record{}
	d := served(t, record)
	st := llb.Image("debian", amd64).Run(llb.Shlex("curl http://a.test")).Root()
	j, execs := rewrittenRuns(t, &Request{Downloads: d, Locked: true}, Pass{}, st)
	id := socketID(execs[0])
	s := newSockets(j.downloads, agents{})
	for id, ok := range map[string]bool{id: true, "mine": true, "other": false, "kedge-ffff-1": false} {
		if _, err := s.CheckAgent(t.Context(), &sshforward.CheckAgentRequest{ID: id}); (err == nil) != ok {
			t.Errorf("%s: %v", id, err)
		}
	}
	p := newPipe(t, "mine")
	if err := s.ForwardAgent(p); err != nil || string(<-p.out) != "agent" {
		t.Errorf("the user's agent: %v", err)
	}
	alone := newSockets(j.downloads, nil)
	if _, err := alone.CheckAgent(t.Context(), &sshforward.CheckAgentRequest{ID: "mine"}); status.Code(err) != codes.Unimplemented {
		t.Errorf("without agents: %v", err)
	}

	// A name, and a request for what is not locked: that ends the build, and is not answered.
	p = newPipe(t, id)
	p.in <- []byte(relay.NamePrefix + "a.test\n")
	if err := s.ForwardAgent(p); err != nil {
		t.Error(err)
	}
	var refused *RefusedDownloadsError
	j.downloads.note(slices.Collect(maps.Keys(j.downloads.keys))[0])
	if err := j.downloads.blame(errors.New("failed")); !errors.As(err, &refused) || len(refused.Silent) != 1 || refused.Silent[0].Hosts[0] != "a.test" {
		t.Errorf("%v", err)
	}
	ctx, stop := context.WithCancel(p.ctx)
	p = newPipe(t, id)
	p.ctx = ctx
	executing, cancel := context.WithCancel(t.Context())
	j.downloads.stop = cancel
	p.in <- []byte("GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.ForwardAgent(p) }()
	<-executing.Done()
	select {
	case data := <-p.out:
		t.Errorf("answered %q", data)
	case <-time.After(50 * time.Millisecond):
	}
	stop()
	<-ended
	var notLocked *network.NotLockedError
	if err := j.downloads.blame(errors.New("failed")); !errors.As(err, &notLocked) || notLocked.URL != "http://a.test/x" {
		t.Errorf("%v", err)
	}
}

// TestStranded has a step fail whose socket no daemon asked this session for: it was another client's step.
func TestStranded(t *testing.T) {
	record := &network.Record{}
	st := llb.Image("debian", amd64).Run(llb.Shlex("make")).Root()
	j, execs := rewrittenRuns(t, &Request{Downloads: served(t, record), Locked: true}, Pass{}, st)
	for id := range j.downloads.keys {
		j.downloads.vertices["sha256:one"] = id
	}
	failed := errdefs.WrapVertex(errors.New("failed"), "sha256:one")
	var stranded *StrandedError
	if err := j.downloads.blame(failed); !errors.As(err, &stranded) {
		t.Errorf("%v", err)
	}
	if err := j.downloads.blame(errors.New("another step")); errors.As(err, &stranded) {
		t.Errorf("%v", err)
	}
	if _, err := newSockets(j.downloads, nil).CheckAgent(t.Context(), &sshforward.CheckAgentRequest{ID: socketID(execs[0])}); err != nil {
		t.Fatal(err)
	}
	if err := j.downloads.blame(failed); errors.As(err, &stranded) {
		t.Errorf("its socket was asked for: %v", err)
	}
}

// TestQuietStep has a step ask for something that was not expected to: it begins again with another key.
func TestQuietStep(t *testing.T) {
	d := served(t, &network.Record{})
	st := llb.Image("debian", amd64).Run(llb.Shlex("make")).Root()
	j, execs := rewrittenRuns(t, &Request{Downloads: d}, Pass{}, st)
	p := newPipe(t, socketID(execs[0]))
	ctx, stop := context.WithCancel(p.ctx)
	p.ctx = ctx
	j.downloads.stop = stop
	p.in <- []byte("GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if err := newSockets(j.downloads, nil).ForwardAgent(p); err != nil {
		t.Error(err)
	}
	if len(p.out) > 0 {
		t.Errorf("answered %q", <-p.out)
	}
	again, ok := Again(&Request{Downloads: d}, j.downloads.blame(errors.New("failed")), 1)
	if !ok {
		t.Fatal("it does not begin again")
	}
	j, _ = rewrittenRuns(t, again, Pass{}, st)
	for _, key := range j.downloads.keys {
		if key.mode != recorded {
			t.Errorf("then it is %s", key.mode)
		}
	}
}
