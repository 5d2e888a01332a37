package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// definition is a build as the frontend describes it, before kedge rewrites anything.
type definition struct {
	result *gateway.Result
	parts  []part
	args   []frontend.Arg // that the target uses
}

// part is the build of one platform.
type part struct {
	id    string // empty if the frontend returned one result without an id
	graph *frontend.Graph
}

// uses returns the sources of all platforms.
func (d *definition) uses() []frontend.Use {
	var uses []frontend.Use
	for _, p := range d.parts {
		uses = append(uses, p.graph.Uses()...)
	}
	return uses
}

// compileSettings returns the compile environment of the RUN steps of all platforms.
func (d *definition) compileSettings() []frontend.Setting {
	var settings []frontend.Setting
	for _, p := range d.parts {
		settings = append(settings, p.graph.Settings()...)
	}
	return settings
}

// ask has the frontend translate the Dockerfile, and name the args that it uses.
func (j *job) ask(ctx context.Context, c gateway.Client) (def *definition, err error) {
	err = j.withLocals(ctx, c, func() (err error) { def, err = j.askOnce(ctx, c); return err })
	return def, err
}

func (j *job) askOnce(ctx context.Context, c gateway.Client) (*definition, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var args []frontend.Arg
	var outlineErr error
	outlined := make(chan struct{})
	go func() {
		defer close(outlined)
		args, outlineErr = j.outline(ctx, c)
	}()
	def, err := j.translate(ctx, c)
	if err != nil {
		// Both report an error in the Dockerfile. This one has its line.
		cancel()
		<-outlined
		return nil, err
	}
	<-outlined
	def.args = args
	return def, outlineErr
}

// translate has BuildKit's frontend turn the Dockerfile into LLB.
func (j *job) translate(ctx context.Context, c gateway.Client) (*definition, error) {
	opts := j.frontendOptions()
	j.attestOptions(opts)
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	if err != nil {
		return nil, j.blameScanner(ctx, c, err)
	}
	def := &definition{result: res}
	add := func(id string, ref gateway.Reference) error {
		st := llb.Scratch()
		if ref != nil {
			var err error
			if st, err = ref.ToState(); err != nil {
				return err
			}
		}
		g, err := graphOf(ctx, st)
		if err == nil {
			j.taken = g.TakenAt()
		}
		def.parts = append(def.parts, part{id: id, graph: g})
		return err
	}
	if len(res.Refs) == 0 {
		return def, add("", res.Ref)
	}
	ps, err := exptypes.ParsePlatforms(res.Metadata)
	if err != nil {
		return nil, err
	}
	for _, p := range ps.Platforms {
		if err := add(p.ID, res.Refs[p.ID]); err != nil {
			return nil, err
		}
	}
	return def, nil
}

// outline asks the frontend which args the target uses. It returns all given args if the frontend
// cannot tell.
func (j *job) outline(ctx context.Context, c gateway.Client) ([]frontend.Arg, error) {
	opts := j.frontendOptions()
	opts["requestid"] = "frontend.outline"
	opts["frontend.caps"] = strings.Join(append(j.frontendCaps(), "moby.buildkit.frontend.subrequests"), ",")
	delete(opts, "no-cache")
	if p := j.req.Platforms; len(p) > 0 {
		opts["platform"] = p[0]
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	var (
		noOutline     *errdefs.UnsupportedSubrequestError
		noSubrequests *errdefs.UnsupportedFrontendCapError
	)
	if errors.As(err, &noOutline) || errors.As(err, &noSubrequests) {
		return frontend.GivenArgs(j.req.Args), nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking which build args %q uses: %w", j.req.Dockerfile, err)
	}
	return frontend.Args(res.Metadata["result.json"], j.req.Args)
}

// graphOf returns the graph of st.
func graphOf(ctx context.Context, st llb.State) (*frontend.Graph, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return frontend.NewGraph(def.ToPB())
}

// entitled returns an *EntitlementError if a step needs an entitlement that was not allowed.
func (j *job) entitled(def *definition) error {
	allowed := j.settings.allowed()
	for _, p := range def.parts {
		for _, need := range p.graph.Needs() {
			if !slices.Contains(allowed, need.Entitlement) {
				return &EntitlementError{Where: j.req.where(lock.Source{}, need.Line), Entitlement: need.Entitlement}
			}
		}
	}
	return nil
}

// OnceError says that a second build would take something from the builder's cache instead of making
// it again.
type OnceError struct{ Where, What string }

func (e *OnceError) Error() string {
	return fmt.Sprintf("%s: %s is made once, and a second build would take it from the builder's cache", e.Where, e.What)
}

// repeatable returns a *OnceError if j is a second build and could not make everything again.
func (j *job) repeatable(def *definition) error {
	if !j.pass.IsSecond() {
		return nil
	}
	for _, use := range def.uses() {
		if in, err := frontend.Identify(use.Op); err == nil && frontend.KeepsGitDir(use.Op) {
			return &OnceError{Where: j.req.where(in.Source, use.Line), What: fmt.Sprintf("the .git of %q", in.Source.Ref)}
		}
	}
	if slices.ContainsFunc(def.parts, func(p part) bool { return p.graph.Nested() }) {
		return &OnceError{Where: j.req.Dockerfile.String(), What: "a build that its frontend has within the build"}
	}
	return nil
}

// base returns the config of the image that g starts from. fromFrontend is the frontend's copy of it,
// which an old frontend leaves out.
func (j *job) base(ctx context.Context, c gateway.Client, g *frontend.Graph, fromFrontend []byte) (base ocispec.Image, err error) {
	config := fromFrontend
	if use := g.BaseUse(); len(config) == 0 && use != nil {
		meta, err := c.ResolveSourceMetadata(ctx, use.Op.CloneVT(), imageOpt(use.Platform))
		if err != nil {
			return base, err
		}
		if meta.Image != nil {
			config = meta.Image.Config
		}
	}
	if len(config) == 0 {
		return base, nil
	}
	if err := json.Unmarshal(config, &base); err != nil {
		return base, fmt.Errorf("reading the base image's config: %w", err)
	}
	return base, nil
}
