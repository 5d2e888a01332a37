// Package gateway is BuildKit's Dockerfile frontend, held to the lockfile beside the Dockerfile. With
//
//	# syntax=REGISTRY/kedge
//
// as the first line of a Dockerfile, docker build, bake, compose and any other client of BuildKit run it in a
// container. docs/frontend.md says what it does and what only kedge itself can do.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

const (
	argPrefix = "build-arg:"
	epochArg  = "SOURCE_DATE_EPOCH"
)

// Build builds a Dockerfile by the lockfile beside it. It is a BuildFunc of BuildKit.
//
// A source that the lock does not pin ends the build before anything is fetched. A subrequest, such as a lint,
// fetches nothing: it needs no pins, and looks sources up by those that there are.
func Build(ctx context.Context, c client.Client) (*client.Result, error) {
	opts := maps.Clone(c.BuildOpts().Opts)
	if opts == nil {
		opts = map[string]string{}
	}
	if opts[frontend.ClientLocks] != "" {
		return dockerfile.Build(ctx, c) // kedge itself holds the build to its lock
	}
	// Without a command line, the Dockerfile frontend would start the image of the syntax line: this one.
	if _, ok := opts["cmdline"]; !ok {
		opts["cmdline"] = opts["source"]
	}
	in, err := read(ctx, c, opts)
	if err != nil {
		return nil, err
	}
	p := &pinned{Client: c, opts: opts, lock: in.lock, context: contextOf(ctx, opts), missing: map[lock.Source]unlocked{}}
	if _, p.query = opts["requestid"]; p.query {
		return dockerfile.Build(ctx, p)
	}
	parsed, err := frontend.Parse(in.source.Filename, in.source.Data)
	if err != nil {
		return nil, err
	}
	if err := p.declare(ctx, in, parsed); err != nil {
		return nil, err
	}
	if err := p.self(ctx, in, parsed); err != nil {
		return nil, err
	}
	// If both fail, the build's error has the line.
	used, notOutlined := p.outline(ctx)
	p.opts["label:"+frontend.ArgsLabel] = frontend.Hash(used)
	res, err := dockerfile.Build(ctx, p)
	if err := cmp.Or(p.err(in, parsed), err, notOutlined); err != nil {
		return nil, err
	}
	in.warn(ctx)
	return res, p.stamp(res)
}

// args returns the build args in opts.
func args(opts map[string]string) map[string]string {
	given := map[string]string{}
	for name, value := range opts {
		if arg, ok := strings.CutPrefix(name, argPrefix); ok {
			given[arg] = value
		}
	}
	return given
}

// contextOf returns the source that is the build context, or the zero value if the client sends it.
func contextOf(ctx context.Context, opts map[string]string) lock.Source {
	key := "context"
	if k, ok := opts["contextkey"]; ok {
		key = k
	}
	st, ok, err := dockerui.DetectGitContext(opts[key], nil)
	if !ok || err != nil {
		st, _, ok = dockerui.DetectHTTPContext(opts[key])
	}
	if !ok {
		return lock.Source{}
	}
	def, err := st.Marshal(ctx)
	if err != nil {
		return lock.Source{}
	}
	g, err := frontend.NewGraph(def.ToPB())
	if err != nil {
		return lock.Source{}
	}
	for _, use := range g.Uses() {
		if in, err := frontend.Identify(use.Op); err == nil {
			return in.Source
		}
	}
	return lock.Source{}
}

// declare sets the options that follow from the lock: target, epoch and labels.
func (p *pinned) declare(ctx context.Context, in *input, parsed *frontend.Dockerfile) error {
	target, declared, err := parsed.DeclaredTarget(p.lock, frontend.TargetOptions{
		Lockfile: in.lockfile, Lockless: !in.exists, Target: p.opts["target"],
	})
	if refused := (*frontend.DeclaredTargetError)(nil); errors.As(err, &refused) {
		return fmt.Errorf("%w: kedge lock --target %s declares that one", err, refused.Asked)
	} else if err != nil {
		return err
	}
	p.opts["target"] = parsed.Option(target)
	if target != declared {
		p.opts["label:"+frontend.TargetLabel] = target
	}
	return p.setEpoch(ctx, in, parsed)
}

// setEpoch finds the epoch: that of the build args, else the Dockerfile's, else the lock's.
func (p *pinned) setEpoch(ctx context.Context, in *input, parsed *frontend.Dockerfile) error {
	given := args(p.opts)
	value, explicit := given[epochArg]
	if value == "" {
		var err error
		if value, err = parsed.Epoch(given); err != nil {
			return err
		}
		explicit = value != ""
	}
	switch seconds, err := strconv.ParseInt(value, 10, 64); {
	case err == nil:
		p.epoch = time.Unix(seconds, 0).UTC()
	case value == "context":
		committed, err := in.ui.ResolveMainContextSourceDateEpoch(ctx)
		if err != nil {
			return err
		}
		if committed != nil {
			p.epoch = *committed
		} else {
			explicit = false // as if nothing was said, as in kedge
		}
	case explicit:
		return nil // BuildKit knows more forms
	}
	if p.epoch.IsZero() {
		p.epoch = p.lock.Epoch
	}
	delete(p.opts, argPrefix+epochArg)
	// A stage's own value would give way to a build arg.
	if !p.epoch.IsZero() && (explicit || !parsed.StageArg(epochArg)) {
		p.opts[argPrefix+epochArg] = strconv.FormatInt(p.epoch.Unix(), 10)
	}
	return nil
}

// outline returns the build args that the target uses.
func (p *pinned) outline(ctx context.Context) ([]frontend.Arg, error) {
	opts := maps.Clone(p.opts)
	opts["requestid"] = outline.SubrequestsOutlineDefinition.Name
	delete(opts, "no-cache")
	opts["platform"], _, _ = strings.Cut(opts["platform"], ",")
	asking := &pinned{Client: p.Client, opts: opts, lock: p.lock, context: p.context, missing: map[lock.Source]unlocked{}}
	res, err := dockerfile.Build(ctx, asking)
	if err != nil {
		maps.Copy(p.missing, asking.missing)
		return nil, err
	}
	return frontend.Args(res.Metadata["result.json"], args(p.opts))
}

// self holds this frontend's own image to the lock. The daemon followed its tag.
func (p *pinned) self(ctx context.Context, from *input, parsed *frontend.Dockerfile) error {
	op := &pb.SourceOp{Identifier: imageScheme + p.opts["source"]}
	in, err := frontend.Identify(op)
	if p.opts["source"] == "" || err != nil {
		return nil // the daemon knows more forms
	}
	s, pin, ok := in.PinIn(p.lock)
	if line := parsed.Line(in.Written); !ok && line > 0 {
		p.miss(in, unlocked{line: line})
	}
	if !ok || in.Pin != "" {
		return nil
	}
	_, running, _, err := p.Client.ResolveImageConfig(ctx, s.Ref, sourceresolver.Opt{})
	if err != nil {
		return fmt.Errorf("looking up this frontend, %q: %w", s.Ref, err)
	}
	if running != "" && running.String() != pin {
		return from.located(fmt.Errorf("%s: the lock has %s, and this frontend is %s: append @%s to the syntax line, or kedge lock --refresh=%s takes the other",
			s.Ref, pin, running, pin, s.Ref), parsed.Line(s))
	}
	return nil
}

// stamp gives the exporter the epoch, which it only knows if the frontend had it as a build arg.
func (p *pinned) stamp(res *client.Result) error {
	if p.epoch.IsZero() {
		return nil
	}
	seconds := []byte(strconv.FormatInt(p.epoch.Unix(), 10))
	if len(res.Refs) == 0 {
		res.AddMeta(commonexptypes.ExporterEpochKey, seconds)
		return nil
	}
	ps, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return err
	}
	for _, platform := range ps.Platforms {
		res.AddMeta(commonexptypes.ExporterEpochKey+"/"+platform.ID, seconds)
	}
	return nil
}

// input is what a build starts from.
type input struct {
	ui       *dockerui.Client
	source   *dockerui.Source
	lockfile string // beside the Dockerfile, whether it exists or not
	lock     *lock.File
	exists   bool
}

// notice is the name of the step that reads the lockfile.
const notice = "[internal] load Dockerfile and lockfile; only kedge build makes layers canonical and verifies them"

// read reads the Dockerfile and its lockfile, from wherever the Dockerfile comes.
func read(ctx context.Context, c client.Client, opts map[string]string) (*input, error) {
	r := &reader{Client: c, opts: opts}
	ui, err := dockerui.NewClient(r)
	if err != nil {
		return nil, err
	}
	filename := dockerui.DefaultDockerfileName
	if name, ok := opts["filename"]; ok {
		filename = name
	}
	// The Dockerfile frontend also takes a file that is called dockerfile.
	paths := []string{filename}
	if rest, ok := strings.CutSuffix(filename, dockerui.DefaultDockerfileName); ok && (rest == "" || strings.HasSuffix(rest, "/")) {
		paths = append(paths, rest+"dockerfile")
	}
	follow := slices.Clone(paths)
	for _, path := range paths {
		follow = append(follow, lockfiles(path, opts["target"])...)
	}
	in := &input{ui: ui, lock: &lock.File{}}
	in.source, err = ui.ReadEntrypoint(ctx, "Dockerfile", llb.FollowPaths(follow), llb.WithCustomName(notice))
	if err != nil {
		return nil, err
	}
	// A remote Dockerfile can have a name of its own.
	path := in.source.Filename
	if path == filename && len(paths) > 1 {
		if found, err := exists(ctx, r.last, path); err != nil {
			return nil, err
		} else if !found {
			path = paths[1]
		}
	}
	for _, lockfile := range lockfiles(path, opts["target"]) {
		in.lockfile = lockfile
		if in.exists, err = exists(ctx, r.last, lockfile); err != nil {
			return nil, err
		}
		if in.exists {
			break
		}
	}
	if !in.exists {
		return in, nil
	}
	data, err := dockerui.ReadFile(ctx, r.last, in.lockfile)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", in.lockfile, err)
	}
	in.lock, err = lock.Parse(in.lockfile, data)
	return in, err
}

// lockfiles returns the paths at which a Dockerfile can have its lockfile. The first that exists counts: if several
// stages ship, kedge bake gives each its own.
func lockfiles(path, target string) []string {
	all := []string{lock.Path(path)}
	if target != "" && !strings.Contains(target, "/") {
		all = append([]string{lock.Path(path + "." + strings.ToLower(target))}, all...)
	}
	return all
}

// exists reports whether ref has a file. A missing folder is an error.
func exists(ctx context.Context, ref client.Reference, path string) (bool, error) {
	dir, name := "", path
	if i := strings.LastIndex(path, "/"); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	files, err := ref.ReadDir(ctx, client.ReadDirRequest{Path: "/" + dir})
	if err != nil {
		return false, fmt.Errorf("looking for %s: %w", path, err)
	}
	for _, f := range files {
		if f.GetPath() == name {
			return true, nil
		}
	}
	return false, nil
}

// warn says what the lock has and this frontend cannot enforce.
func (in *input) warn(ctx context.Context) {
	if in.lock.Downloads != "" {
		in.source.Warn(ctx, in.lockfile+" locks what RUN steps download, which only kedge build enforces: here they have the network", client.WarnOpts{
			Detail: [][]byte{[]byte("kedge build also writes layers in one canonical form, so that equal content has an equal digest, and kedge verify builds twice and compares.")},
		})
	}
}

// reader keeps what it read last.
type reader struct {
	client.Client
	opts map[string]string
	last client.Reference
}

func (r *reader) BuildOpts() client.BuildOpts {
	o := r.Client.BuildOpts()
	o.Opts = maps.Clone(r.opts)
	return o
}

func (r *reader) Solve(ctx context.Context, req client.SolveRequest) (*client.Result, error) {
	res, err := r.Client.Solve(ctx, req)
	if err == nil {
		r.last = res.Ref
	}
	return res, err
}

// located adds to err the lines that it is about, as BuildKit shows them.
func (in *input) located(err error, lines ...int) error {
	source := &errdefs.Source{Info: &pb.SourceInfo{
		Filename: in.source.Filename, Data: in.source.Data, Language: in.source.Language, Definition: in.source.Definition.ToPB(),
	}}
	for _, line := range lines {
		if line == 0 {
			continue
		}
		at := &pb.Position{Line: int32(line)}
		source.Ranges = append(source.Ranges, &pb.Range{Start: at, End: at})
	}
	if len(source.Ranges) == 0 {
		return err
	}
	return errdefs.WithSource(err, source)
}
