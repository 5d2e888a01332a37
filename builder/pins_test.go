package builder

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	sourcepolicy "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
)

const (
	digestA = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	digestB = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	commitA = "3333333333333333333333333333333333333333"
	commitB = "4444444444444444444444444444444444444444"

	debian = "docker-image://docker.io/library/debian:12"
)

func image(ref string) lock.Source { return lock.Source{Kind: lock.Image, Ref: ref} }
func web(ref string) lock.Source   { return lock.Source{Kind: lock.URL, Ref: ref} }
func git(ref string) lock.Source   { return lock.Source{Kind: lock.Git, Ref: ref} }

func op(id string, attrs ...string) *pb.SourceOp {
	op := &pb.SourceOp{Identifier: id, Attrs: map[string]string{"kept": "x"}}
	for i := 0; i < len(attrs); i += 2 {
		op.Attrs[attrs[i]] = attrs[i+1]
	}
	return op
}

func newPins(t testing.TB, locked bool, pinned map[lock.Source]string) *pins {
	t.Helper()
	p := &pins{locked: locked, file: &lock.File{}, used: map[lock.Source]bool{}, unlocked: map[lock.Source]Unlocked{}}
	for s, pin := range pinned {
		if err := p.file.Add(s, pin); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// lookUps are the daemon's results, by identifier.
type lookUps map[string]string

// ask asks for a source as the daemon does, until there is a decision. It returns the operation that the
// daemon would run, or nil if it is denied.
func (d lookUps) ask(t testing.TB, p *pins, op *pb.SourceOp) (_ *pb.SourceOp, lookedUp int) {
	t.Helper()
	meta := &gatewaypb.ResolveSourceMetaResponse{Source: op.CloneVT()}
	platform := &pb.Platform{OS: "linux", Architecture: "arm64"}
	for range 10 {
		decision, request, err := p.check(t.Context(), &policysession.CheckPolicyRequest{Source: meta, Platform: platform})
		if err != nil {
			t.Fatal(err)
		}
		if request != nil {
			if decision != nil || request.Platform != platform || !request.Source.EqualVT(meta.Source) {
				t.Fatalf("look-up of another source: %v, %v", decision, request)
			}
			lookedUp++
			meta = d.lookUp(t, request)
			continue
		}
		switch decision.Action {
		case sourcepolicy.PolicyAction_ALLOW:
			return meta.Source, lookedUp
		case sourcepolicy.PolicyAction_DENY:
			if len(decision.DenyMessages) != 1 || decision.DenyMessages[0].Message == "" {
				t.Errorf("denied without a reason: %v", decision)
			}
			return nil, lookedUp
		case sourcepolicy.PolicyAction_CONVERT:
			meta = &gatewaypb.ResolveSourceMetaResponse{Source: decision.Update}
		}
	}
	t.Fatalf("no end with %v", meta)
	return nil, 0
}

func (d lookUps) lookUp(t testing.TB, req *gatewaypb.ResolveSourceMetaRequest) *gatewaypb.ResolveSourceMetaResponse {
	t.Helper()
	id, _, _ := strings.Cut(req.Source.Identifier, "@")
	found, ok := d[id]
	if !ok {
		t.Fatalf("look-up of %q", req.Source.Identifier)
	}
	meta := &gatewaypb.ResolveSourceMetaResponse{Source: req.Source}
	switch {
	case strings.HasPrefix(id, "docker-image://"):
		if req.Image == nil || req.Image.NoConfig {
			t.Errorf("BuildKit answers without a digest: %v", req)
		}
		if _, digest, ok := strings.Cut(req.Source.Identifier, "@"); ok {
			found = digest
		}
		meta.Image = &gatewaypb.ResolveSourceImageResponse{Digest: found}
	case strings.HasPrefix(id, "git://"):
		tag, commit, _ := strings.Cut(found, "^")
		meta.Git = &gatewaypb.ResolveSourceGitResponse{Checksum: tag, CommitChecksum: commit}
	default:
		meta.HTTP = &gatewaypb.ResolveSourceHTTPResponse{Checksum: found}
	}
	return meta
}

func TestCheck(t *testing.T) {
	const (
		debianKey = "docker.io/library/debian:12"
		file      = "https://example.com/a"
		repo      = "git://example.com/r.git#v1"
		repoKey   = "https://example.com/r.git#v1"
	)
	everything := map[lock.Source]string{image(debianKey): digestA, web(file): digestA, git(repoKey): commitA}
	fetchCommit := []string{pb.AttrGitChecksum, commitA, pb.AttrGitFetchByCommit, "true"}
	type pinned = map[lock.Source]string
	tests := []struct {
		name   string
		locked bool
		lock   pinned
		found  lookUps
		op     *pb.SourceOp
		want   *pb.SourceOp // nil: denied
		looked int
		added  pinned
		used   []lock.Source
		errs   []Unlocked
	}{
		{name: "image, locked", locked: true, lock: everything, op: op(debian), want: op(debian + "@" + digestA), used: []lock.Source{image(debianKey)}},
		{name: "image, in the lock", lock: everything, op: op(debian), want: op(debian + "@" + digestA), used: []lock.Source{image(debianKey)}},
		{name: "image as the frontend resolved it", locked: true, lock: everything, op: op(debian + "@" + digestA), want: op(debian + "@" + digestA), used: []lock.Source{image(debianKey)}},
		{name: "image, short form", locked: true, lock: everything, op: op("docker-image://debian:12"), want: op(debian + "@" + digestA), used: []lock.Source{image(debianKey)}},
		{name: "image, new", found: lookUps{debian: digestB}, op: op(debian), want: op(debian + "@" + digestB), looked: 1,
			added: pinned{image(debianKey): digestB}, used: []lock.Source{image(debianKey)}},
		{name: "image, other tag", lock: everything, found: lookUps{"docker-image://docker.io/library/debian:13": digestB}, op: op("docker-image://docker.io/library/debian:13"),
			want: op("docker-image://docker.io/library/debian:13@" + digestB), looked: 1,
			added: pinned{image("docker.io/library/debian:13"): digestB}, used: []lock.Source{image("docker.io/library/debian:13")}},
		{name: "image, not locked", locked: true, found: lookUps{debian: digestB}, op: op(debian), want: op(debian + "@" + digestB), looked: 1,
			added: pinned{image(debianKey): digestB}, used: []lock.Source{image(debianKey)}, errs: []Unlocked{{Source: image(debianKey)}}},
		{name: "image with a digest of its own", lock: everything, found: lookUps{debian: ""}, op: op(debian + "@" + digestB), want: op(debian + "@" + digestB), looked: 1,
			added: pinned{image(debianKey + "@" + digestB): digestB}, used: []lock.Source{image(debianKey + "@" + digestB)}},
		{name: "image with a digest of its own, in the lock", locked: true, lock: pinned{image(debianKey): digestA, image(debianKey + "@" + digestB): digestB},
			op: op(debian + "@" + digestB), want: op(debian + "@" + digestB), used: []lock.Source{image(debianKey + "@" + digestB)}},
		{name: "image with a digest of its own, not locked", locked: true, lock: everything, found: lookUps{debian: ""}, op: op(debian + "@" + digestB), want: op(debian + "@" + digestB), looked: 1,
			added: pinned{image(debianKey + "@" + digestB): digestB}, used: []lock.Source{image(debianKey + "@" + digestB)}, errs: []Unlocked{{Source: image(debianKey + "@" + digestB)}}},
		{name: "digest and no tag, in the lock", locked: true, lock: pinned{image("docker.io/library/debian@" + digestA): digestA}, op: op("docker-image://debian@" + digestA),
			want: op("docker-image://debian@" + digestA), used: []lock.Source{image("docker.io/library/debian@" + digestA)}},
		{name: "digest and no tag, pinned to another", locked: true, lock: pinned{image("docker.io/library/debian@" + digestA): digestB}, op: op("docker-image://debian@" + digestA),
			used: []lock.Source{image("docker.io/library/debian@" + digestA)},
			errs: []Unlocked{{Source: image("docker.io/library/debian@" + digestA), Locked: digestB, Found: digestA}}},
		{name: "look-up of another algorithm", found: lookUps{debian: "sha512:" + strings.Repeat("1", 128)}, op: op(debian), looked: 1, used: []lock.Source{image(debianKey)}},

		{name: "frontend, locked", locked: true, lock: everything, op: op(debian, pb.AttrImageRecordType, "frontend"), want: op(debian+"@"+digestA, pb.AttrImageRecordType, "frontend"), used: []lock.Source{image(debianKey)}},
		{name: "frontend, not locked", locked: true, op: op(debian, pb.AttrImageRecordType, "frontend"), errs: []Unlocked{{Source: image(debianKey)}}},
		{name: "frontend, new", found: lookUps{debian: digestB}, op: op(debian, pb.AttrImageRecordType, "frontend"), want: op(debian+"@"+digestB, pb.AttrImageRecordType, "frontend"), looked: 1,
			added: pinned{image(debianKey): digestB}, used: []lock.Source{image(debianKey)}},

		{name: "URL, locked", locked: true, lock: everything, op: op(file), want: op(file, pb.AttrHTTPChecksum, digestA), used: []lock.Source{web(file)}},
		{name: "URL with the checksum of the lock", locked: true, lock: everything, op: op(file, pb.AttrHTTPChecksum, digestA), want: op(file, pb.AttrHTTPChecksum, digestA), used: []lock.Source{web(file)}},
		{name: "URL with another checksum", lock: everything, op: op(file, pb.AttrHTTPChecksum, digestB), used: []lock.Source{web(file)},
			errs: []Unlocked{{Source: web(file), Locked: digestA, Found: digestB}}},
		{name: "URL, new", found: lookUps{file: digestB}, op: op(file), want: op(file, pb.AttrHTTPChecksum, digestB), looked: 1, added: pinned{web(file): digestB}, used: []lock.Source{web(file)}},
		{name: "URL with credentials", locked: true, lock: everything, op: op("https://u:p@example.com/a"), want: op("https://u:p@example.com/a", pb.AttrHTTPChecksum, digestA), used: []lock.Source{web(file)}},
		{name: "URL, not locked", locked: true, found: lookUps{file: digestB}, op: op(file), want: op(file, pb.AttrHTTPChecksum, digestB), looked: 1,
			added: pinned{web(file): digestB}, used: []lock.Source{web(file)}, errs: []Unlocked{{Source: web(file)}}},

		{name: "git, locked", locked: true, lock: everything, op: op(repo), want: op(repo, fetchCommit...), used: []lock.Source{git(repoKey)}},
		{name: "git, folder", locked: true, lock: everything, op: op(repo + ":sub"), want: op(repo+":sub", fetchCommit...), used: []lock.Source{git(repoKey)}},
		{name: "git with the checksum of the lock", locked: true, lock: everything, op: op(repo, pb.AttrGitChecksum, commitA), want: op(repo, pb.AttrGitChecksum, commitA), used: []lock.Source{git(repoKey)}},
		{name: "git with the beginning of it", locked: true, lock: everything, op: op(repo, pb.AttrGitChecksum, commitA[:7]), want: op(repo, fetchCommit...), used: []lock.Source{git(repoKey)}},
		{name: "git with another beginning", lock: everything, op: op(repo, pb.AttrGitChecksum, commitB[:7]), used: []lock.Source{git(repoKey)},
			errs: []Unlocked{{Source: git(repoKey), Locked: commitA, Found: commitB[:7]}}},
		{name: "git with more than the lock", lock: everything, op: op(repo, pb.AttrGitChecksum, commitA+"3"), used: []lock.Source{git(repoKey)},
			errs: []Unlocked{{Source: git(repoKey), Locked: commitA, Found: commitA + "3"}}},
		{name: "git, commit as ref", locked: true, lock: pinned{git("https://example.com/r.git#" + commitA): commitA}, op: op("git://example.com/r.git#" + commitA),
			want: op("git://example.com/r.git#"+commitA, fetchCommit...), used: []lock.Source{git("https://example.com/r.git#" + commitA)}},
		{name: "git, new", found: lookUps{repo: commitA}, op: op(repo), want: op(repo, fetchCommit...), looked: 1, added: pinned{git(repoKey): commitA}, used: []lock.Source{git(repoKey)}},
		{name: "git, new, annotated tag", found: lookUps{repo: commitB + "^" + commitA}, op: op(repo), want: op(repo, fetchCommit...), looked: 1, added: pinned{git(repoKey): commitA}, used: []lock.Source{git(repoKey)}},
		{name: "git, new, with the beginning", found: lookUps{repo: commitA}, op: op(repo, pb.AttrGitChecksum, commitA[:7]), want: op(repo, fetchCommit...), looked: 1,
			added: pinned{git(repoKey): commitA}, used: []lock.Source{git(repoKey)}},

		{name: "local", locked: true, op: op("local://context"), want: op("local://context")},
		{name: "OCI layout", locked: true, op: op("oci-layout://x@" + digestA), want: op("oci-layout://x@" + digestA)},
		{name: "unsupported", op: op("ftp://example.com/a")},
		{name: "bundle", op: op(repo, pb.AttrGitBundle, "docker-image+blob://a@"+digestA)},
		{name: "no reference", op: op("docker-image://UPPER")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPins(t, test.locked, test.lock)
			before := p.file.Clone()
			got, looked := test.found.ask(t, p, test.op)
			if (got == nil) != (test.want == nil) || got != nil && !got.EqualVT(test.want) {
				t.Errorf("fetched %v\nwant    %v", got, test.want)
			}
			if looked != test.looked {
				t.Errorf("looked up %d times, want %d", looked, test.looked)
			}
			added := pinned(nil)
			for _, c := range before.Changes(p.file) {
				if c.Old != "" {
					t.Errorf("a pin moved: %v", c)
				}
				if added == nil {
					added = pinned{}
				}
				added[c.Source] = c.New
			}
			if diff := cmp.Diff(test.added, added); diff != "" {
				t.Errorf("added (-want +got):\n%s", diff)
			}
			used := map[lock.Source]bool{}
			for _, s := range test.used {
				used[s] = true
			}
			if diff := cmp.Diff(used, p.used); diff != "" {
				t.Errorf("used (-want +got):\n%s", diff)
			}
			var errs []Unlocked
			for _, u := range p.unlocked {
				errs = append(errs, u)
			}
			if diff := cmp.Diff(test.errs, errs); diff != "" {
				t.Errorf("unlocked (-want +got):\n%s", diff)
			}
			if test.want != nil {
				// A second question, as for a second platform, gets the same answer without a look-up.
				again, looked := lookUps{}.ask(t, p, test.op)
				if !again.EqualVT(test.want) || looked != 0 {
					t.Errorf("the second time: %v, %d look-ups", again, looked)
				}
			}
		})
	}
}

func TestCheckNothing(t *testing.T) {
	p := newPins(t, false, nil)
	decision, _, err := p.check(t.Context(), &policysession.CheckPolicyRequest{})
	if err != nil || decision.GetAction() != sourcepolicy.PolicyAction_DENY {
		t.Errorf("%v, %v", decision, err)
	}
}

func TestUnlockedError(t *testing.T) {
	parsed, err := frontend.Parse("D", []byte("# syntax=docker/dockerfile:1\nFROM debian:12\nADD https://example.com/a /\nADD https://example.com/$V /\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPins(t, true, nil)
	if err := p.err(&Request{}, nil); err != nil {
		t.Fatalf("all is well, but %v", err)
	}
	for _, s := range []lock.Source{image("docker.io/library/debian:12"), image("docker.io/docker/dockerfile:1")} {
		in := frontend.Input{Source: s, Written: s}
		p.miss(in)
		if err := p.add(in, digestA); err != nil {
			t.Fatal(err)
		}
	}
	p.changed(web("https://example.com/a"), digestA, digestB)
	p.changed(web("https://example.com/b"), digestA, "")
	p.gone(image("docker.io/library/gone:1"), digestA, digestB)
	p.changed(web("https://example.com/elsewhere"), digestA, digestB)
	err = p.err(&Request{Dockerfile: Dockerfile{Path: "D"}, Parsed: parsed}, []frontend.Use{{Op: op("https://example.com/b"), Line: 4}, {Op: op("ftp://x"), Line: 9}})
	var unlocked *UnlockedError
	if !errors.As(err, &unlocked) {
		t.Fatal(err)
	}
	want := `D: image "docker.io/library/gone:1" is locked to ` + digestA + `, which is no longer available, and is now ` + digestB + `
D: url "https://example.com/elsewhere" is locked to ` + digestA + `, and is now ` + digestB + `
D:1: image "docker.io/docker/dockerfile:1" is not locked
D:2: image "docker.io/library/debian:12" is not locked
D:3: url "https://example.com/a" is locked to ` + digestA + `, and is now ` + digestB + `
D:4: url "https://example.com/b" no longer has the locked content, ` + digestA
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

// BuildKit's gateway looks up the syntax image, and then runs the digest that it found.
func TestUnlockedFrontendRuns(t *testing.T) {
	const ref = "docker-image://docker.io/docker/dockerfile:1"
	p := newPins(t, true, nil)
	got, _ := lookUps{ref: digestA}.ask(t, p, op(ref))
	if got == nil {
		t.Fatal("looking is allowed")
	}
	if got, _ := (lookUps{}).ask(t, p, op(got.Identifier, pb.AttrImageRecordType, "frontend")); got != nil {
		t.Errorf("an unlocked frontend runs: %v", got)
	}
}

// A daemon can look up a source before it asks.
func TestUnlockedAndFound(t *testing.T) {
	p := newPins(t, true, nil)
	_, _, err := p.check(t.Context(), &policysession.CheckPolicyRequest{Source: &gatewaypb.ResolveSourceMetaResponse{
		Source: op("docker-image://docker.io/library/debian:12"), Image: &gatewaypb.ResolveSourceImageResponse{Digest: digestA},
	}})
	var unlocked *UnlockedError
	if err != nil || !errors.As(p.err(&Request{}, nil), &unlocked) {
		t.Errorf("an unlocked source is allowed: %v", err)
	}
}

func TestConflictWithWhatWasFound(t *testing.T) {
	const repo = "git://example.com/r.git#v1"
	p := newPins(t, false, nil)
	lookUps{repo: commitA}.ask(t, p, op(repo, pb.AttrGitChecksum, commitB[:7]))
	for s := range p.unlocked {
		if s != git("https://example.com/r.git#v1") {
			t.Errorf("%+v is reported", s)
		}
	}
}

func TestCompare(t *testing.T) {
	const file, repo = "https://example.com/a", "git://example.com/r.git#v1"
	p := newPins(t, false, map[lock.Source]string{web(file): digestA, git("https://example.com/r.git#v1"): commitA})
	p.compare([]frontend.Use{
		{Op: op(file)}, {Op: op(file, pb.AttrHTTPChecksum, digestA)}, {Op: op(repo, pb.AttrGitChecksum, commitA[:7])},
		{Op: op("https://example.com/new", pb.AttrHTTPChecksum, digestB)}, {Op: op("local://context")}, {Op: op("ftp://example.com/a")},
	})
	if len(p.unlocked) > 0 {
		t.Errorf("recorded %v", p.unlocked)
	}
	p.compare([]frontend.Use{{Op: op(file, pb.AttrHTTPChecksum, digestB)}})
	want := map[lock.Source]Unlocked{web(file): {Source: web(file), Locked: digestA, Found: digestB}}
	if diff := cmp.Diff(want, p.unlocked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A daemon with a proxy network also asks about downloads of steps. They are allowed once steps can run, even
// if the lock has the URL, and are not recorded. Any other source is refused then.
func TestDownloads(t *testing.T) {
	const url = "https://example.com:443/a"
	look := lookUps{url: digestA, "https://example.com/locked": digestA}
	for _, locked := range []bool{false, true} {
		p := newPins(t, locked, map[lock.Source]string{web("https://example.com/locked"): digestB})
		p.seal()
		for _, id := range []string{url, "https://example.com/locked"} {
			want := &pb.SourceOp{Identifier: id}
			if got, lookedUp := look.ask(t, p, want); !got.EqualVT(want) || lookedUp != 0 {
				t.Errorf("locked %v: %v after %d look-ups", locked, got, lookedUp)
			}
		}
		if len(p.unlocked) > 0 || len(p.used) > 0 || len(p.file.Sources()) != 1 {
			t.Errorf("recorded %v, %v", p.unlocked, p.used)
		}
	}

	// Before that, it is a source of the frontend.
	p := newPins(t, false, nil)
	if got, lookedUp := look.ask(t, p, &pb.SourceOp{Identifier: url}); got.GetAttrs()[pb.AttrHTTPChecksum] != digestA || lookedUp != 1 {
		t.Errorf("not pinned: %v", got)
	}
	p = newPins(t, true, nil)
	p.seal()
	if got, _ := look.ask(t, p, op(url)); got != nil {
		t.Errorf("allowed: %v", got)
	}
}
