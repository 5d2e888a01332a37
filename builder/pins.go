package builder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	sourcepolicy "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
)

// Unlocked is a source without a pin, or with a pin that does not match.
type Unlocked struct {
	Source lock.Source
	Where  string // FILE:LINE, or the argument that names the source
	Line   int    // of the Dockerfile; 0 if no line names the source
	Locked string // the pin; empty if there is none
	Found  string // the current pin of the source; empty if it was not looked up
	Gone   bool   // the locked content is no longer available
}

// UnlockedError lists the sources that the lock forbids.
type UnlockedError struct{ Sources []Unlocked }

func (e *UnlockedError) Error() string {
	lines := make([]string, len(e.Sources))
	for i, s := range e.Sources {
		switch {
		case s.Locked == "":
			lines[i] = fmt.Sprintf("%s: %s %q is not locked", s.Where, s.Source.Kind, s.Source.Ref)
		case s.Found == "" && s.Source.Kind == lock.Local:
			lines[i] = fmt.Sprintf("%s: image %q is locked to %s, an image of this machine, which is not there", s.Where, s.Source.Ref, s.Locked)
		case s.Gone:
			lines[i] = fmt.Sprintf("%s: %s %q is locked to %s, which is no longer available, and is now %s", s.Where, s.Source.Kind, s.Source.Ref, s.Locked, s.Found)
		case s.Found == "":
			lines[i] = fmt.Sprintf("%s: %s %q no longer has the locked content, %s", s.Where, s.Source.Kind, s.Source.Ref, s.Locked)
		default:
			lines[i] = fmt.Sprintf("%s: %s %q is locked to %s, and is now %s", s.Where, s.Source.Kind, s.Source.Ref, s.Locked, s.Found)
		}
	}
	return strings.Join(lines, "\n")
}

// pins decides which sources the daemon may fetch, and records new pins. It is safe for concurrent use.
type pins struct {
	locked  bool // no pin may be added
	offline bool // nothing may be fetched
	// local reports whether an image without a pin waits until its registry was asked, because this machine
	// has it. It may be nil.
	local func(ctx context.Context, name string, platform *pb.Platform) bool

	mu       sync.Mutex
	sealed   bool                   // every source of the build is known
	probed   map[lock.Source]string // what was found of sources whose pin is ignored for now
	file     *lock.File
	used     map[lock.Source]bool
	unlocked map[lock.Source]Unlocked
	asking   map[lock.Source]bool // what the daemon asks registries for
	images   []pinnedImage        // that the daemon got from check
	away     map[lock.Source]bool // what an offline build would have to fetch
}

// pinnedImage is an image that has a pin.
type pinnedImage struct {
	source   lock.Source
	platform *pb.Platform // nil for the builder's own
}

// find returns the pin of in, and the source that the lock has it for.
func (p *pins) find(in frontend.Input) (lock.Source, string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range []lock.Source{in.Source, in.Written} {
		if found, ok := p.probed[s]; ok && found == "" {
			return lock.Source{}, "", false
		} else if ok {
			return s, found, true
		}
	}
	s, pin, ok := in.PinIn(p.file)
	if ok {
		p.used[s] = true
	}
	return s, pin, ok
}

// miss records that in has no pin, if none may be added. It stays recorded even if in is looked up later.
func (p *pins) miss(in frontend.Input) {
	s := in.LockedAs()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, probing := p.probed[s]; p.locked && !probing {
		p.unlocked[s] = Unlocked{Source: s}
	}
}

// add pins in. If no pin may be added, miss has recorded the source: the new pin then only serves this
// run, which ends before any step is executed.
func (p *pins) add(in frontend.Input, pin string) error {
	s := in.LockedAs()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.probed[s]; ok {
		p.probed[s] = pin
		return nil
	}
	p.used[s] = true
	delete(p.asking, s)
	return p.file.Add(s, pin)
}

// seal says that every source of the build is known. If no pin may be added, check refuses any other
// source from now on.
func (p *pins) seal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealed = true
}

// probe returns the pin of s, and what s is without that pin. look must have the daemon look up s. found
// is empty if look fails.
func (p *pins) probe(s lock.Source, look func() error) (pin, found string) {
	p.mu.Lock()
	pin, _ = p.file.Pin(s)
	p.probed = map[lock.Source]string{s: ""}
	p.mu.Unlock()
	err := look()
	p.mu.Lock()
	defer p.mu.Unlock()
	found, p.probed = p.probed[s], nil
	if err != nil {
		return pin, ""
	}
	return pin, found
}

func (p *pins) refuses(s lock.Source) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, probing := p.probed[s]
	return p.locked && p.sealed && !probing
}

// isDownload reports whether op is a request of a RUN step to a daemon with a proxy network. The daemon
// presents such a request as a source that is a URL without attributes. The build's own sources are
// pinned before any step runs. Downloads of steps are not locked, and a daemon could not pin them.
func (p *pins) isDownload(op *pb.SourceOp) bool {
	scheme, _, _ := strings.Cut(op.GetIdentifier(), "://")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sealed && p.probed == nil && (scheme == "http" || scheme == "https") && len(op.Attrs) == 0
}

func (p *pins) isUnlocked(s lock.Source) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.unlocked[s]
	return ok
}

func (p *pins) changed(s lock.Source, locked, found string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unlocked[s] = Unlocked{Source: s, Locked: locked, Found: found}
}

// gone records that the locked content of s is no longer available.
func (p *pins) gone(s lock.Source, locked, found string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unlocked[s] = Unlocked{Source: s, Locked: locked, Found: found, Gone: true}
}

// resolve records that the daemon gets the pin of an image.
func (p *pins) resolve(s lock.Source, platform *pb.Platform) {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := func(i pinnedImage) bool { return i.source == s && i.platform.EqualVT(platform) }
	if s.Kind == lock.Image && !slices.ContainsFunc(p.images, have) {
		p.images = append(p.images, pinnedImage{s, platform})
	}
}

// resolved returns the images that the daemon got a pin for.
func (p *pins) resolved() []pinnedImage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.images)
}

// err returns an *UnlockedError if the lock forbids a source. The lines come from uses or the Dockerfile.
func (p *pins) err(req *Request, uses []frontend.Use) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unlocked) == 0 {
		return nil
	}
	lines := map[lock.Source]int{}
	for _, use := range uses {
		if in, err := frontend.Identify(use.Op); err == nil && use.Line > 0 {
			lines[in.Source], lines[in.Written] = use.Line, use.Line
		}
	}
	e := &UnlockedError{}
	for s, u := range p.unlocked {
		if u.Line = lines[s]; u.Line == 0 {
			u.Line = req.line(s)
		}
		u.Where = req.where(s, u.Line)
		e.Sources = append(e.Sources, u)
	}
	slices.SortFunc(e.Sources, compareUnlocked)
	return e
}

// compare records the uses that ask for another digest than their pin. Two uses of one URL with two
// checksums are such a case.
func (p *pins) compare(uses []frontend.Use) {
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil || in.Local {
			continue
		}
		if s, pin, ok := p.find(in); ok && !in.Agrees(pin) {
			p.changed(s, pin, in.Pin)
		}
	}
}

// check answers the daemon's question whether it may fetch a source. It is a policysession.PolicyCallback.
func (p *pins) check(ctx context.Context, req *policysession.CheckPolicyRequest) (*policysession.DecisionResponse, *gatewaypb.ResolveSourceMetaRequest, error) {
	op := req.GetSource().GetSource()
	if p.isDownload(op) && !p.offline {
		return &policysession.DecisionResponse{Action: sourcepolicy.PolicyAction_ALLOW}, nil, nil
	}
	in, err := frontend.Identify(op)
	if err != nil {
		return deny(err.Error()), nil, nil
	}
	if in.Local {
		return &policysession.DecisionResponse{Action: sourcepolicy.PolicyAction_ALLOW}, nil, nil
	}
	if p.offline {
		p.keepOff(in.Written)
		return deny(fmt.Sprintf("%q is not on this machine", in.Written.Ref)), nil, nil
	}
	s, pin, ok := p.find(in)
	if p.locked && op.Attrs[pb.AttrImageRecordType] == "frontend" && (!ok || p.isUnlocked(s)) {
		// An unlocked image may be looked up, but a frontend would also run.
		if !ok {
			p.changed(in.Written, "", "")
		}
		return deny(fmt.Sprintf("frontend %q is not locked", in.Written.Ref)), nil, nil
	}
	if !ok && p.refuses(in.Source) {
		p.changed(in.Written, "", "")
		return deny(fmt.Sprintf("%q is not locked", in.Written.Ref)), nil, nil
	}
	if !ok && in.Source.Kind == lock.Image && in.Pin == "" && op.Attrs[pb.AttrImageRecordType] != "frontend" && !p.probing() {
		if p.lostLocal(in.Source.Ref) {
			return deny(fmt.Sprintf("%q is locked to an image of this machine, which is not there", in.Source.Ref)), nil, nil
		}
		if p.local != nil && foundPin(req.Source) == "" && p.local(ctx, in.Source.Ref, req.Platform) {
			p.miss(in)
			return deny(fmt.Sprintf("%q is an image of this machine", in.Source.Ref)), nil, nil
		}
	}
	if !ok {
		p.miss(in)
		found := foundPin(req.Source)
		if found == "" {
			p.ask(in.LockedAs())
			return nil, metaRequest(op, req.Platform), nil
		}
		if err := p.add(in, found); err != nil {
			return deny(err.Error()), nil, nil
		}
		pin, s = found, in.LockedAs()
	}
	if !in.Agrees(pin) {
		p.changed(s, pin, in.Pin)
		return deny(fmt.Sprintf("%q is locked to %s", in.Source.Ref, pin)), nil, nil
	}
	p.resolve(s, req.Platform)
	if in.Pin == pin && (in.Source.Kind != lock.Git || op.Attrs[pb.AttrGitChecksum] == pin) {
		return &policysession.DecisionResponse{Action: sourcepolicy.PolicyAction_ALLOW}, nil, nil
	}
	return &policysession.DecisionResponse{
		Action: sourcepolicy.PolicyAction_CONVERT,
		Update: frontend.Pinned(op, in, pin),
	}, nil, nil
}

func deny(why string) *policysession.DecisionResponse {
	return &policysession.DecisionResponse{
		Action:       sourcepolicy.PolicyAction_DENY,
		DenyMessages: []*policysession.DenyMessage{{Message: why}},
	}
}

func metaRequest(op *pb.SourceOp, platform *pb.Platform) *gatewaypb.ResolveSourceMetaRequest {
	req := &gatewaypb.ResolveSourceMetaRequest{Source: op, Platform: platform, LogName: lookUpName(op)}
	if strings.HasPrefix(op.Identifier, "docker-image://") {
		// With NoConfig the digest would come back empty.
		req.Image = &gatewaypb.ResolveSourceImageRequest{}
	}
	return req
}

// foundPin returns the pin in the result of a look-up, or "" if there was none.
func foundPin(meta *gatewaypb.ResolveSourceMetaResponse) string {
	switch {
	case meta.GetImage() != nil:
		return meta.GetImage().GetDigest()
	case meta.GetHTTP() != nil:
		return meta.GetHTTP().GetChecksum()
	case meta.GetGit() != nil:
		// The commit behind an annotated tag.
		if c := meta.GetGit().GetCommitChecksum(); c != "" {
			return c
		}
		return meta.GetGit().GetChecksum()
	}
	return ""
}
