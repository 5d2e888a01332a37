package builder

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// Resolve finds what a build would be made from, and runs none of its steps. Sources that the lock
// does not have are added to a copy of it, or reported as an *UnlockedError where req.Locked is set.
func (b *Builder) Resolve(ctx context.Context, req *Request) (*Resolution, error) {
	s := newSolve(b, req, 0)
	if err := s.run(ctx, nil); err != nil {
		return nil, err
	}
	return &s.result.Resolution, nil
}

// Build builds. It asks open, with the epoch, where the export goes. salt, where it is not zero,
// makes this the second build of a verification: every step is executed anew, shares nothing with
// any other build, and leaves what Release can remove. It is a number above 255.
func (b *Builder) Build(ctx context.Context, req *Request, salt int32, open func(epoch time.Time) (content.Store, error)) (*Result, error) {
	s := newSolve(b, req, salt)
	if err := s.run(ctx, open); err != nil {
		if salt != 0 {
			err = errors.Join(err, b.Release(context.WithoutCancel(ctx), &s.result))
		}
		return nil, err
	}
	return &s.result, nil
}

// solve is one run of a build.
type solve struct {
	b        *Builder
	req      *Request
	settings Settings // of req, with the hosts that the builder knows
	internal bool     // the daemon keeps no record of it
	began    bool     // the daemon has let the build begin
	salt     int32
	pins     *pins
	epoch    time.Time
	times    contextTimes
	store    lateStore
	result   Result
	err      error // what ended the build function, as it was before it went through the daemon

	exec   map[digest.Digest]string // the command line of each salted RUN
	folder map[digest.Digest]string // the mount that a vertex syncs
	vertex map[digest.Digest]*client.Vertex

	own    map[string]bool     // identifiers of the sources whose files keep their times
	caches map[string][]string // what the id of a cache mount has to carry
}

// lateStore is a content store that is chosen when the epoch is known.
type lateStore struct{ content.Store }

func newSolve(b *Builder, req *Request, salt int32) *solve {
	return &solve{
		b: b, req: req, settings: req.Settings, salt: salt, internal: salt != 0, epoch: req.Epoch, times: contextTimes{sent: map[string]string{}, modes: map[string]modes{}},
		pins: &pins{
			locked: req.Locked, file: req.Lock.Clone(),
			used: map[lock.Source]bool{}, unlocked: map[lock.Source]Unlocked{},
		},
		exec: map[digest.Digest]string{}, folder: map[digest.Digest]string{}, vertex: map[digest.Digest]*client.Vertex{},
	}
}

// session has fn use the daemon, through the lock. export says that what fn returns goes to s.store. No
// error of it has credentials in its text.
func (s *solve) session(ctx context.Context, export bool, fn gateway.BuildFunc) (_ *client.SolveResponse, err error) {
	defer func() { err = redacted(err) }()
	began := time.Now()
	opt, err := s.options()
	if err != nil {
		if s.req.Status != nil {
			close(s.req.Status)
		}
		return nil, err
	}
	if export {
		opt.Exports = []client.ExportEntry{{
			Type:        client.ExporterOCI,
			Attrs:       s.exportOptions(),
			OutputStore: &s.store,
		}}
		if s.salt == 0 {
			s.settings.caches(&opt)
		}
	}
	status := make(chan *client.SolveStatus)
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(status) })
	res, err := s.b.client.Build(ctx, opt, "kedge", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		s.began = true
		out, err := (*gateway.Result)(nil), s.settings.check(c.BuildOpts())
		if err == nil {
			err = checkCapabilities(c.BuildOpts().LLBCaps)
		}
		if err == nil {
			out, err = fn(ctx, c)
			err = s.blameLock(ctx, c, err)
		}
		s.err = err
		return out, err
	}, status)
	watching.Wait()
	s.account(began)
	var unlocked *UnlockedError
	if errors.As(s.err, &unlocked) {
		return nil, s.err // with the lines that only the build function knew
	}
	// Also where nothing failed: what the lock forbids is never a success.
	if denied := s.pins.err(s.req, nil); denied != nil {
		return nil, denied
	}
	if s.err != nil {
		return nil, s.b.lost(s.err)
	}
	if err != nil {
		err = s.b.lost(err)
		if lost := (*LostError)(nil); !errors.As(err, &lost) && !s.began && ctx.Err() == nil && len(opt.AllowedEntitlements) > 0 {
			return nil, &RefusedError{Entitlements: opt.AllowedEntitlements, Own: s.b.lease != nil, Err: err}
		}
		return nil, err
	}
	return res, nil
}

func (s *solve) run(ctx context.Context, open func(time.Time) (content.Store, error)) error {
	res, err := s.session(ctx, open != nil, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		return s.build(ctx, c, open)
	})
	if err != nil {
		return err
	}
	s.result.sent = s.times.sent
	s.result.Sent = map[string][]string{}
	for mount, dir := range s.req.Directories() {
		s.result.Sent[dir] = sentFrom(s.result.sent, mount)
	}
	if first := s.req.Compare; first != nil {
		if path, ok := changed(first.sent, s.result.sent); ok {
			return &ChangedContextError{Path: path}
		}
	}
	s.result.Lock, s.result.Used, s.result.Epoch = s.pins.file, s.pins.used, s.epoch
	if open == nil {
		return nil
	}
	return s.finish(res)
}

// part is the build of one platform.
type part struct {
	id    string // empty where the frontend returned one result without an id
	graph *frontend.Graph
}

func (s *solve) build(ctx context.Context, c gateway.Client, open func(time.Time) (content.Store, error)) (*gateway.Result, error) {
	have := c.BuildOpts().LLBCaps
	if slices.Contains(s.req.Vary, VaryCPUs) && have.Supports(pb.CapExecMetaLinuxResources) != nil {
		return nil, &CapabilityError{"limit the CPUs of a step", "v0.31"}
	}
	res, parts, err := s.ask(ctx, c)
	if err != nil {
		return nil, err
	}
	uses := usesOf(parts)
	if err := s.lookUp(ctx, c, uses); err != nil {
		return nil, err
	}
	if s.epoch.IsZero() {
		newest, err := s.newestBase(ctx, c, uses)
		if err != nil {
			return nil, err
		}
		s.epoch = s.req.NewEpoch(newest)
		s.times.setEpoch(s.epoch)
		// What a variable makes of the epoch may be a source, or an arg.
		if res, parts, err = s.ask(ctx, c); err != nil {
			return nil, err
		}
		uses = usesOf(parts)
		if err := s.lookUp(ctx, c, uses); err != nil {
			return nil, err
		}
	}
	s.pins.seal()
	if open == nil {
		return gateway.NewResult(), nil
	}
	if err := s.entitled(parts); err != nil {
		return nil, err
	}
	if err := s.repeatable(parts); err != nil {
		return nil, err
	}
	s.keepTimes(parts, have)
	if err := s.fetch(ctx, c, uses); err != nil {
		return nil, err
	}
	store, err := open(s.epoch)
	if err != nil {
		return nil, err
	}
	s.store.Store = store
	return s.solve(ctx, c, res, parts)
}

// ask has the frontend make the LLB, and name the args that it used.
func (s *solve) ask(ctx context.Context, c gateway.Client) (res *gateway.Result, parts []part, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var outlineErr error
	outlined := make(chan struct{})
	go func() {
		defer close(outlined)
		outlineErr = s.outline(ctx, c)
	}()
	if res, parts, err = s.frontend(ctx, c); err != nil {
		cancel()
		<-outlined // what is wrong with the Dockerfile both say, and this one with its line
		return nil, nil, err
	}
	<-outlined
	return res, parts, outlineErr
}

// frontend has BuildKit make LLB of the Dockerfile.
func (s *solve) frontend(ctx context.Context, c gateway.Client) (*gateway.Result, []part, error) {
	opts := s.frontendOptions()
	s.attestOptions(opts)
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	if err != nil {
		return nil, nil, s.blameScanner(ctx, c, err)
	}
	var parts []part
	add := func(id string, ref gateway.Reference) error {
		st := llb.Scratch()
		if ref != nil {
			var err error
			if st, err = ref.ToState(); err != nil {
				return err
			}
		}
		g, err := graphOf(ctx, st)
		parts = append(parts, part{id: id, graph: g})
		return err
	}
	if len(res.Refs) == 0 {
		err := add("", res.Ref)
		return res, parts, err
	}
	ps, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range ps.Platforms {
		if err := add(p.ID, res.Refs[p.ID]); err != nil {
			return nil, nil, err
		}
	}
	return res, parts, nil
}

// graphOf returns what st is made of.
func graphOf(ctx context.Context, st llb.State) (*frontend.Graph, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return frontend.NewGraph(def.ToPB())
}

// solve hands the pinned build to the daemon, which executes it when it is exported.
func (s *solve) solve(ctx context.Context, c gateway.Client, res *gateway.Result, parts []part) (*gateway.Result, error) {
	out := gateway.NewResult()
	out.Metadata = res.Metadata
	if err := forgetProxies(out.Metadata, s.settings.proxies(s.req.Args)); err != nil {
		return nil, err
	}
	caches, err := imports(c)
	if err != nil {
		return nil, err
	}
	ps, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return nil, err
	}
	for i, p := range parts {
		def, err := p.graph.Rewrite(s.edit)
		if err != nil {
			return nil, err
		}
		g, err := frontend.NewGraph(def)
		if err != nil {
			return nil, err
		}
		for d, args := range g.Commands() {
			s.exec[d] = args
		}
		for _, use := range g.Uses() {
			if mount, ok := strings.CutPrefix(use.Op.Identifier, "local://"); ok {
				s.folder[use.Vertex] = mount
			}
		}
		var ref gateway.Reference
		if len(def.Def) > 0 {
			r, err := c.Solve(ctx, gateway.SolveRequest{Definition: def, CacheImports: caches})
			if err != nil {
				return nil, err
			}
			ref = r.Ref
		}
		if p.id == "" {
			out.SetRef(ref)
		} else {
			out.AddRef(p.id, ref)
		}
		platform := Platform{Steps: g.Layers()}
		if use := g.BaseUse(); use != nil {
			if in, err := frontend.Identify(use.Op); err == nil {
				platform.BaseRef = in.Source.Ref
			}
		}
		if i < len(ps.Platforms) {
			platform.Platform = platforms.Normalize(ps.Platforms[i].Platform)
			base, err := s.base(ctx, c, g, exptypes.ParseKey(res.Metadata, exptypes.ExporterImageBaseConfigKey, &ps.Platforms[i]))
			if err != nil {
				return nil, err
			}
			platform.BaseLayers, platform.BaseHistory = len(base.RootFS.DiffIDs), len(base.History)
		}
		s.result.Platforms = append(s.result.Platforms, platform)
	}
	return out, s.attest(ctx, c, res, out)
}

// entitled finds what a step needs and nobody has allowed, before any runs.
func (s *solve) entitled(parts []part) error {
	allowed := s.settings.allowed()
	for _, p := range parts {
		for _, need := range p.graph.Needs() {
			if !slices.Contains(allowed, need.Entitlement) {
				return &EntitlementError{Where: s.req.where(lock.Source{}, need.Line), Entitlement: need.Entitlement}
			}
		}
	}
	return nil
}

// OnceError says that a second build would take something from the builder's cache that it should make anew.
type OnceError struct{ Where, What string }

func (e *OnceError) Error() string {
	return fmt.Sprintf("%s: %s is made once, and a second build would take it from the builder's cache", e.Where, e.What)
}

// repeatable finds what a second build would not make anew.
func (s *solve) repeatable(parts []part) error {
	if s.salt == 0 {
		return nil
	}
	for _, use := range usesOf(parts) {
		if in, err := frontend.Identify(use.Op); err == nil && frontend.KeepsGitDir(use.Op) {
			return &OnceError{Where: s.req.where(in.Source, use.Line), What: fmt.Sprintf("the .git of %q", in.Source.Ref)}
		}
	}
	if slices.ContainsFunc(parts, func(p part) bool { return p.graph.Nested() }) {
		return &OnceError{Where: s.req.Dockerfile.String(), What: "a build that its frontend has within the build"}
	}
	return nil
}

// steady are variables with which programs do the same each time that they run.
var steady = []struct{ name, value string }{
	{"FORCE_SOURCE_DATE", "1"}, // TeX takes the epoch for today only where it is told to
	// The order in which hash tables are gone through is otherwise another in each process.
	{"PYTHONHASHSEED", "0"}, // https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED
	{"PERL_HASH_SEED", "0"}, // https://perldoc.perl.org/perlrun#PERL_HASH_SEED
}

// edit pins an operation, tells its process the epoch, and sees to the times of what it copies.
func (s *solve) edit(v frontend.Vertex) {
	op, md := v.Op, v.Metadata
	s.stamp(v)
	if src := op.GetSource(); src != nil {
		if in, err := frontend.Identify(src); err == nil {
			pinned := s.source(src, in)
			src.Identifier, src.Attrs = pinned.Identifier, pinned.Attrs
		}
		return
	}
	// The daemon refuses a process without Meta, and says so.
	if exec := op.GetExec(); exec.GetMeta() != nil {
		exec.Meta.Env = withDefault(exec.Meta.Env, "SOURCE_DATE_EPOCH", strconv.FormatInt(s.epoch.Unix(), 10))
		for _, v := range steady {
			exec.Meta.Env = withDefault(exec.Meta.Env, v.name, v.value)
		}
		if s.salt != 0 {
			// No process ends with a status above 255: this changes the key that the daemon knows the
			// step by, and nothing else. (A missing optional secret would set an empty variable.)
			if len(exec.Meta.ValidExitCodes) == 0 {
				exec.Meta.ValidExitCodes = []int32{0}
			}
			exec.Meta.ValidExitCodes = append(exec.Meta.ValidExitCodes, s.salt)
			vary(s.req.Vary, exec, md)
		}
	}
	s.separate(op.GetExec())
	if s.salt != 0 {
		md.IgnoreCache = true
	}
}

// source returns what the daemon fetches for src.
func (s *solve) source(src *pb.SourceOp, in frontend.Input) *pb.SourceOp {
	if _, pin, ok := s.pins.find(in); ok && !in.Local {
		src = frontend.Pinned(src, in, pin)
	}
	return s.timed(src)
}

// withDefault returns an environment in which a variable is set, to the value given where it was not.
func withDefault(env []string, name, value string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
		return env
	}
	return append(env, name+"="+value)
}

// watch passes the progress on and keeps when each step ran.
func (s *solve) watch(status <-chan *client.SolveStatus) {
	if s.req.Status != nil {
		defer close(s.req.Status)
	}
	for st := range status {
		for _, v := range st.Vertexes {
			s.vertex[v.Digest] = v
		}
		s.result.Warnings = append(s.result.Warnings, st.Warnings...)
		if s.req.Status != nil {
			s.req.Status <- redactedStatus(st)
		}
	}
}

func (s *solve) finish(res *client.SolveResponse) error {
	data, err := base64.StdEncoding.DecodeString(res.ExporterResponse[exptypes.ExporterImageDescriptorKey])
	if err != nil {
		return fmt.Errorf("reading the export's descriptor: %w", err)
	}
	if err := json.Unmarshal(data, &s.result.Root); err != nil {
		return fmt.Errorf("reading the export's descriptor: %w", err)
	}
	return nil
}

// account keeps when the steps ran, and what they may have left.
func (s *solve) account(began time.Time) {
	s.result.Started, s.result.Finished = began, time.Now()
	// The daemon's last word came a moment ago: that is how its clock differs from ours.
	var last time.Time
	for _, v := range s.vertex {
		if v.Completed != nil && v.Completed.After(last) {
			last = *v.Completed
		}
	}
	offset := time.Since(last)
	for d, v := range s.vertex {
		if v.Started == nil || v.Completed == nil || v.Cached {
			continue
		}
		if _, ok := s.command(d); ok {
			if began := v.Started.Add(offset); began.After(s.result.Began) {
				s.result.Began = began
			}
			if ended := v.Completed.Add(offset); ended.After(s.result.Ended) {
				s.result.Ended = ended
			}
		}
		if s.salt != 0 {
			args, _ := s.command(d)
			s.result.made = append(s.result.made, made{name: v.Name, args: args, folder: s.folder[d], from: *v.Started, to: *v.Completed})
		}
	}
	if s.salt != 0 {
		s.result.made = append(s.result.made, made{namespace: s.cacheNamespace()})
	}
}

// command returns the command line of a RUN. Where a step is to ignore the cache, and another build
// runs the same with it, the daemon shows it under a digest of its own.
func (s *solve) command(d digest.Digest) (string, bool) {
	if args, ok := s.exec[d]; ok {
		return args, true
	}
	for vertex, args := range s.exec {
		if digest.FromString(vertex.String()+"-ignorecache") == d {
			return args, true
		}
	}
	return "", false
}
