package builder

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
)

// Request says what to build, and from what.
type Request struct {
	Context    string // a directory
	Dockerfile string // a file
	Parsed     *frontend.Dockerfile
	Target     string
	Platforms  []string          // empty: the builder's own
	Args       map[string]string // build args
	Contexts   map[string]string // named contexts: a directory, or what BuildKit takes for one
	NoCache    bool

	Lock   *lock.File    // what is locked; not changed
	Locked bool          // nothing may be added to it
	Relock []lock.Source // sources to look up besides those of the build

	// Epoch is SOURCE_DATE_EPOCH. Zero: NewEpoch is asked, with the newest creation time of the base
	// images, or the zero time.
	Epoch    time.Time
	NewEpoch func(newestBase time.Time) time.Time

	// Leave are files that no build is sent: the lockfile, which is not part of what it locks.
	Leave []string
	// Compare is the first build, where this is the second: they must be sent the same files.
	Compare *Result

	Auth *configfile.ConfigFile // credentials, as docker keeps them
	// Status gets the progress of the build; it is closed at its end. It may be nil.
	Status chan *client.SolveStatus
}

// Resolution is what a build is made from.
type Resolution struct {
	Lock  *lock.File // Request.Lock and what was added
	Used  map[lock.Source]bool
	Epoch time.Time
	Args  []frontend.Arg // that the target uses
}

// Result is a build as BuildKit exported it.
type Result struct {
	Resolution
	Root      ocispec.Descriptor // manifest or index
	Platforms []Platform
	// Started is when this build began, by this machine's clock.
	Started time.Time
	// Began and Ended are when the last RUN began, and when one last ended, of those that were not
	// taken from the cache, by this machine's clock; zero where all were.
	Began, Ended time.Time

	made []made
	sent map[string]string
}

// Platform is the part of a Result that is for one platform.
type Platform struct {
	Platform                ocispec.Platform
	BaseLayers, BaseHistory int             // the lowest, which come from the base image
	BaseRef                 string          // of the base image, where it has one
	Steps                   []frontend.Step // behind each layer above the base
}

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
	b      *Builder
	req    *Request
	salt   int32
	pins   *pins
	epoch  time.Time
	times  contextTimes
	store  lateStore
	result Result
	err    error // what ended the build function, as it was before it went through the daemon

	exec   map[digest.Digest]string // the command line of each salted RUN
	vertex map[digest.Digest]*client.Vertex
}

// lateStore is a content store that is chosen when the epoch is known.
type lateStore struct{ content.Store }

func newSolve(b *Builder, req *Request, salt int32) *solve {
	return &solve{
		b: b, req: req, salt: salt, epoch: req.Epoch, times: contextTimes{sent: map[string]string{}},
		pins: &pins{
			locked: req.Locked, file: req.Lock.Clone(),
			used: map[lock.Source]bool{}, unlocked: map[lock.Source]Unlocked{},
		},
		exec: map[digest.Digest]string{}, vertex: map[digest.Digest]*client.Vertex{},
	}
}

func (s *solve) run(ctx context.Context, open func(time.Time) (content.Store, error)) error {
	began := time.Now()
	opt, err := s.options()
	if err != nil {
		if s.req.Status != nil {
			close(s.req.Status)
		}
		return err
	}
	if open != nil {
		opt.Exports = []client.ExportEntry{{
			Type:        client.ExporterOCI,
			Attrs:       map[string]string{"tar": "false", "compression": "uncompressed", "oci-mediatypes": "true"},
			OutputStore: &s.store,
		}}
	}
	status := make(chan *client.SolveStatus)
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(status) })
	res, err := s.b.client.Build(ctx, opt, "kedge", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		out, err := s.build(ctx, c, open)
		s.err = err
		return out, err
	}, status)
	watching.Wait()
	s.account(began)
	var unlocked *UnlockedError
	if errors.As(s.err, &unlocked) {
		return s.err // with the lines that only the build function knew
	}
	// Also where nothing failed: what the lock forbids is never a success.
	if denied := s.pins.err(s.req, nil); denied != nil {
		return denied
	}
	if err != nil {
		return err
	}
	s.result.sent = s.times.sent
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

func (s *solve) options() (client.SolveOpt, error) {
	mounts := map[string]fsutil.FS{}
	for name, dir := range s.directories() {
		fs, err := fsutil.NewFS(dir)
		if err != nil {
			return client.SolveOpt{}, fmt.Errorf("opening build context %q: %w", dir, err)
		}
		mounts[name] = fs
	}
	dir, err := fsutil.NewFS(filepath.Dir(s.req.Dockerfile))
	if err != nil {
		return client.SolveOpt{}, fmt.Errorf("opening the folder of %q: %w", s.req.Dockerfile, err)
	}
	mounts["dockerfile"] = dir
	s.times.setEpoch(s.epoch)
	abs, err := filepath.Abs(s.req.Context)
	if err != nil {
		return client.SolveOpt{}, err
	}
	attachables := []session.Attachable{}
	if s.req.Auth != nil {
		attachables = append(attachables, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
			AuthConfigProvider: authprovider.LoadAuthConfig(s.req.Auth),
		}))
	}
	return client.SolveOpt{
		LocalMounts:          mounts,
		LocalFilterOpt:       s.times.filter(mounts, s.leaves()),
		SharedKey:            "kedge:" + digest.FromString(abs).Encoded(),
		FrontendAttrs:        map[string]string{},
		Session:              attachables,
		SourcePolicyProvider: policysession.NewPolicyProvider(s.pins.check),
		Internal:             s.salt != 0,
	}, nil
}

// leaves returns what says of a path in a mount that it is one of s.req.Leave, or the file beside it
// that becomes it.
func (s *solve) leaves() func(mount, path string) bool {
	dirs := map[string]string{}
	for mount, dir := range s.directories() {
		dirs[mount] = realPath(dir)
	}
	return func(mount, path string) bool {
		dir, ok := dirs[mount]
		return ok && slices.ContainsFunc(s.req.Leave, func(leave string) bool {
			folder, name := realPath(filepath.Dir(leave)), filepath.Base(leave)
			if filepath.Dir(filepath.Join(dir, path)) != folder {
				return false
			}
			return filepath.Base(path) == name || strings.HasPrefix(filepath.Base(path), "."+name+".")
		})
	}
}

// realPath returns the path of a folder without symbolic links, as far as it can tell.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

// directories returns the contexts that are directories, by the name of their mount.
func (s *solve) directories() map[string]string {
	dirs := map[string]string{"context": s.req.Context}
	for name, value := range s.req.Contexts {
		if !strings.Contains(value, "://") {
			dirs["context-"+name] = value
		}
	}
	return dirs
}

// frontendOptions are the options of BuildKit's Dockerfile frontend.
func (s *solve) frontendOptions() map[string]string {
	opts := map[string]string{"filename": filepath.Base(s.req.Dockerfile), "target": s.req.Target}
	if len(s.req.Platforms) > 0 {
		opts["platform"] = strings.Join(s.req.Platforms, ",")
	}
	for k, v := range s.req.Args {
		opts["build-arg:"+k] = v
	}
	if !s.epoch.IsZero() {
		opts["build-arg:SOURCE_DATE_EPOCH"] = strconv.FormatInt(s.epoch.Unix(), 10)
	}
	for name, value := range s.req.Contexts {
		if !strings.Contains(value, "://") {
			value = "local:context-" + name
		}
		opts["context:"+name] = value
	}
	if s.req.NoCache {
		opts["no-cache"] = ""
	}
	if s.salt != 0 {
		// Cache mounts of its own: a verification neither uses nor prunes the user's.
		const key = "build-arg:BUILDKIT_CACHE_MOUNT_NS"
		opts[key] = s.cacheNamespace() + opts[key]
	}
	return opts
}

func (s *solve) cacheNamespace() string { return fmt.Sprintf("kedge-%d-", s.salt) }

// part is the build of one platform.
type part struct {
	id    string // empty where the frontend returned one result without an id
	graph *frontend.Graph
}

func (s *solve) build(ctx context.Context, c gateway.Client, open func(time.Time) (content.Store, error)) (*gateway.Result, error) {
	if err := checkCapabilities(c.BuildOpts().LLBCaps); err != nil {
		return nil, err
	}
	res, parts, err := s.ask(ctx, c)
	if err != nil {
		return nil, err
	}
	uses := usesOf(parts)
	if err := s.lookUp(ctx, c, uses); err != nil {
		return nil, err
	}
	if err := s.pins.err(s.req, uses); err != nil {
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
		if err := s.pins.err(s.req, uses); err != nil {
			return nil, err
		}
	}
	s.pins.seal()
	if open == nil {
		return gateway.NewResult(), nil
	}
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
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		res, parts, err = s.frontend(ctx, c)
		return err
	})
	group.Go(func() error { return s.outline(ctx, c) })
	return res, parts, group.Wait()
}

func usesOf(parts []part) []frontend.Use {
	var uses []frontend.Use
	for _, p := range parts {
		uses = append(uses, p.graph.Uses()...)
	}
	return uses
}

// frontend has BuildKit make LLB of the Dockerfile.
func (s *solve) frontend(ctx context.Context, c gateway.Client) (*gateway.Result, []part, error) {
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: s.frontendOptions()})
	if err != nil {
		return nil, nil, err
	}
	var parts []part
	add := func(id string, ref gateway.Reference) error {
		def := &pb.Definition{}
		if ref != nil {
			st, err := ref.ToState()
			if err != nil {
				return err
			}
			d, err := st.Marshal(ctx)
			if err != nil {
				return err
			}
			def = d.ToPB()
		}
		g, err := frontend.NewGraph(def)
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

// lookUp pins every source that is not yet: all at once, where the frontend had no need to.
func (s *solve) lookUp(ctx context.Context, c gateway.Client, uses []frontend.Use) error {
	ops := map[lock.Source]*pb.SourceOp{}
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil {
			return fmt.Errorf("%s: %w", where(s.req.Dockerfile, use.Line), err)
		}
		if _, _, ok := s.pins.find(in); !ok && !in.Local {
			ops[in.Written] = use.Op
		}
	}
	for _, src := range s.req.Relock {
		op := frontend.Operation(src)
		if in, err := frontend.Identify(op); err == nil {
			if _, _, ok := s.pins.find(in); !ok {
				ops[in.Written] = op
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, op := range ops {
		group.Go(func() error {
			// The daemon asks p.check, which asks for the look-up and notes what it finds.
			_, err := c.ResolveSourceMetadata(ctx, op.CloneVT(), sourceresolver.Opt{LogName: "look up " + op.Identifier})
			return err
		})
	}
	return group.Wait()
}

func where(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// newestBase returns the newest creation time of the images that the build uses.
func (s *solve) newestBase(ctx context.Context, c gateway.Client, uses []frontend.Use) (time.Time, error) {
	var mu sync.Mutex
	var newest time.Time
	group, ctx := errgroup.WithContext(ctx)
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil || in.Source.Kind != lock.Image {
			continue
		}
		group.Go(func() error {
			meta, err := c.ResolveSourceMetadata(ctx, use.Op.CloneVT(), imageOpt(use.Platform))
			if err != nil {
				return err
			}
			var config ocispec.Image
			if meta.Image == nil || json.Unmarshal(meta.Image.Config, &config) != nil || config.Created == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if config.Created.After(newest) {
				newest = *config.Created
			}
			return nil
		})
	}
	err := group.Wait()
	return newest, err
}

func (s *solve) outline(ctx context.Context, c gateway.Client) error {
	opts := s.frontendOptions()
	opts["requestid"] = "frontend.outline"
	opts["frontend.caps"] = "moby.buildkit.frontend.subrequests"
	delete(opts, "no-cache")
	if p := s.req.Platforms; len(p) > 0 {
		opts["platform"] = p[0]
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	var (
		noOutline     *errdefs.UnsupportedSubrequestError
		noSubrequests *errdefs.UnsupportedFrontendCapError
	)
	if errors.As(err, &noOutline) || errors.As(err, &noSubrequests) {
		s.result.Args = frontend.GivenArgs(s.req.Args)
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking which build args %q uses: %w", s.req.Dockerfile, err)
	}
	s.result.Args, err = frontend.Args(res.Metadata["result.json"], s.req.Args)
	return err
}

// fetch gets what is pinned by content before any step runs, so that a source that no longer is what
// the lock says ends the build there.
func (s *solve) fetch(ctx context.Context, c gateway.Client, uses []frontend.Use) error {
	var mu sync.Mutex
	failed := map[lock.Source]*pb.SourceOp{}
	group, gctx := errgroup.WithContext(ctx)
	for _, use := range uses {
		in, err := frontend.Identify(use.Op)
		if err != nil || in.Local || in.Source.Kind == lock.Image {
			continue
		}
		src, pin, ok := s.pins.find(in)
		if !ok {
			continue
		}
		group.Go(func() error {
			def, err := frontend.Fetch(frontend.Pinned(use.Op, in, pin))
			if err != nil {
				return err
			}
			if _, err = c.Solve(gctx, gateway.SolveRequest{Definition: def, Evaluate: true}); err != nil && gctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				failed[src] = use.Op
			}
			return err
		})
	}
	err := group.Wait()
	for src, op := range failed {
		s.lookAgain(ctx, c, src, op)
	}
	if unlocked := s.pins.err(s.req, uses); unlocked != nil {
		return unlocked
	}
	return err
}

// lookAgain looks whether a source that could not be fetched is something else now.
func (s *solve) lookAgain(ctx context.Context, c gateway.Client, src lock.Source, op *pb.SourceOp) {
	pin, found := s.pins.probe(src, func() error {
		_, err := c.ResolveSourceMetadata(ctx, op.CloneVT(), sourceresolver.Opt{LogName: "look again at " + src.Ref})
		return err
	})
	if found != "" && found != pin {
		s.pins.changed(src, pin, found)
	}
}

// solve hands the pinned build to the daemon, which executes it when it is exported.
func (s *solve) solve(ctx context.Context, c gateway.Client, res *gateway.Result, parts []part) (*gateway.Result, error) {
	out := gateway.NewResult()
	out.Metadata = res.Metadata
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
		var ref gateway.Reference
		if len(def.Def) > 0 {
			r, err := c.Solve(ctx, gateway.SolveRequest{Definition: def})
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
	return out, nil
}

// base returns the config of the image that g starts from: what the frontend says, or, where it is
// too old to say, what the image itself does.
func (s *solve) base(ctx context.Context, c gateway.Client, g *frontend.Graph, said []byte) (base ocispec.Image, err error) {
	if use := g.BaseUse(); len(said) == 0 && use != nil {
		meta, err := c.ResolveSourceMetadata(ctx, use.Op.CloneVT(), imageOpt(use.Platform))
		if err != nil {
			return base, err
		}
		if meta.Image != nil {
			said = meta.Image.Config
		}
	}
	if len(said) == 0 {
		return base, nil
	}
	if err := json.Unmarshal(said, &base); err != nil {
		return base, fmt.Errorf("reading the base image's config: %w", err)
	}
	return base, nil
}

// imageOpt asks for an image's config for a platform.
func imageOpt(p *pb.Platform) sourceresolver.Opt {
	opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{}}
	if p != nil {
		opt.ImageOpt.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	}
	return opt
}

// edit pins an operation and tells its process the epoch.
func (s *solve) edit(op *pb.Op, md *pb.OpMetadata) {
	if src := op.GetSource(); src != nil {
		in, err := frontend.Identify(src)
		if err != nil || in.Local {
			return
		}
		if _, pin, ok := s.pins.find(in); ok {
			pinned := frontend.Pinned(src, in, pin)
			src.Identifier, src.Attrs = pinned.Identifier, pinned.Attrs
		}
		return
	}
	if exec := op.GetExec(); exec != nil {
		const name = "SOURCE_DATE_EPOCH="
		has := false
		for _, e := range exec.Meta.Env {
			has = has || strings.HasPrefix(e, name)
		}
		if !has {
			exec.Meta.Env = append(exec.Meta.Env, name+strconv.FormatInt(s.epoch.Unix(), 10))
		}
		if s.salt != 0 {
			// No process ends with a status above 255: this changes the key that the daemon knows the
			// step by, and nothing else. (A missing optional secret would set an empty variable.)
			if len(exec.Meta.ValidExitCodes) == 0 {
				exec.Meta.ValidExitCodes = []int32{0}
			}
			exec.Meta.ValidExitCodes = append(exec.Meta.ValidExitCodes, s.salt)
		}
	}
	if s.salt != 0 {
		md.IgnoreCache = true
	}
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
		if s.req.Status != nil {
			s.req.Status <- st
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
	s.result.Started = began
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
			s.result.made = append(s.result.made, made{name: v.Name, args: args, from: *v.Started, to: *v.Completed})
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
