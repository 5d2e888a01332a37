package builder

import (
	"context"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// machine is a machine with images.
type machine map[string]digest.Digest

func (m machine) Has(_ context.Context, name string) (bool, error) { return m[name] != "", nil }

func (m machine) Find(_ context.Context, name string) (*Layout, error) {
	if m[name] == "" {
		return nil, nil
	}
	return &Layout{Dir: "/images", Digest: m[name]}, nil
}

func (m machine) Places() []string { return []string{"the machine"} }

const (
	base   = "docker.io/library/base:1"
	golang = "docker.io/library/golang:latest"
)

// The daemon asks a registry for an image unless this machine has it, and never for one that is locked as
// local.
func TestLocalImageWaits(t *testing.T) {
	one, two := digest.FromString("one"), digest.FromString("two")
	local := lock.Source{Kind: lock.Local, Ref: base}
	tests := []struct {
		name      string
		machine   machine
		pinned    map[lock.Source]string
		asked     bool // the registry
		allowed   bool
		forbidden bool // by the lock
	}{
		{"nowhere here", machine{golang: one}, nil, true, true, false},
		{"here, without a pin", machine{base: one}, nil, false, false, false},
		{"here, and the registry's is locked", machine{base: one}, map[lock.Source]string{image(base): two.String()}, false, true, false},
		{"locked as local, and gone", machine{}, map[lock.Source]string{local: one.String()}, false, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(nil, &Request{Lock: &lock.File{}, Local: test.machine}, Pass{})
			p := newPins(t, false, test.pinned)
			p.local = j.wait
			got, lookedUp := lookUps{"docker-image://" + base: two.String()}.ask(t, p, op("docker-image://"+base))
			if (lookedUp > 0) != test.asked || (got != nil) != test.allowed || (p.err(&Request{}, nil) != nil) != test.forbidden {
				t.Errorf("%d look-ups, %v, %v", lookedUp, got, p.err(&Request{}, nil))
			}
			if _, waits := j.locals.waiting[base]; waits == test.asked && test.machine[base] != "" && test.pinned == nil {
				t.Errorf("waiting: %v", j.locals.waiting)
			}
		})
	}
}

// A look-up that is canceled because another one failed leaves no error of its own, which would hide the other's.
func TestLocalImageCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, finder := range map[string]LocalImages{"fails": canceled{}, "is there": machine{base: digest.FromString("one")}} {
		j := newJob(nil, &Request{Lock: &lock.File{}, Local: finder}, Pass{})
		if j.wait(ctx, base, nil) || j.locals.err != nil || len(j.locals.waiting) > 0 {
			t.Errorf("%s: error %v, waiting %v", name, j.locals.err, j.locals.waiting)
		}
	}
}

// canceled is a machine whose images are looked up in vain when the context has ended.
type canceled struct{ machine }

func (canceled) Has(ctx context.Context, _ string) (bool, error) { return false, ctx.Err() }

// A lock serves its local images, except if a registry's is locked, a context is given, or a stage has
// the name.
func TestServeLocked(t *testing.T) {
	one, other := digest.FromString("one"), digest.FromString("other")
	parsed, err := frontend.Parse("Dockerfile", []byte("FROM base:1 AS golang\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		ref  string
		req  Request
		also bool // the registry's is locked, too
		want string
	}{
		{"served", base, Request{}, false, "oci-layout://kedge-local@" + one.String()},
		{"the registry's is locked", base, Request{}, true, ""},
		{"a context is given", base, Request{Contexts: map[string]Context{"base:1": {Dir: "/x"}}}, false, "local:context-base:1"},
		{"a stage has the name", golang, Request{}, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := test.req
			req.Lock, req.Parsed, req.Local = &lock.File{}, parsed, machine{test.ref: one}
			if err := req.Lock.Add(lock.Source{Kind: lock.Local, Ref: test.ref}, other.String()); err != nil {
				t.Fatal(err)
			}
			if test.also {
				if err := req.Lock.Add(image(test.ref), other.String()); err != nil {
					t.Fatal(err)
				}
			}
			j := newJob(nil, &req, Pass{})
			if err := j.serveLocked(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := j.frontendOptions()["context:"+contextName(test.ref)]; got != test.want {
				t.Errorf("%q, not %q", got, test.want)
			}
		})
	}
}

// A local image that was rebuilt moves its pin, unless no pin may move. Another context does not.
func TestLockLocals(t *testing.T) {
	one, two := digest.FromString("one"), digest.FromString("two")
	s := lock.Source{Kind: lock.Local, Ref: base}
	for _, locked := range []bool{false, true} {
		j := newJob(nil, &Request{Lock: &lock.File{}}, Pass{})
		j.pins = newPins(t, locked, map[lock.Source]string{s: one.String()})
		j.locals.serve(base, &Layout{Digest: two})
		use := func(d digest.Digest) []frontend.Use {
			return []frontend.Use{{Op: &pb.SourceOp{Identifier: "oci-layout://" + base + "@" + d.String()}}}
		}
		j.lockLocals(use(digest.FromString("another context")))
		if pin, _ := j.pins.file.Pin(s); pin != one.String() || j.pins.used[s] {
			t.Errorf("locked %v: another context moves the pin to %s", locked, pin)
		}
		j.lockLocals(use(two))
		pin, _ := j.pins.file.Pin(s)
		refused := j.pins.err(&Request{}, nil)
		if (pin == two.String()) == locked || (refused != nil) != locked || !j.pins.used[s] {
			t.Errorf("locked %v: %s, %v", locked, pin, refused)
		}
		if locked && !strings.Contains(refused.Error(), "is now "+two.String()) {
			t.Errorf("%v", refused)
		}
	}
}
