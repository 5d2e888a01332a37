package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/publish"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
)

// namedBuilder returns the builder that is asked for and what asks for it; both are empty for kedge's
// own. An empty --builder asks for that.
func (p *process) namedBuilder(c *cli.Context) (name, by string) {
	if c.IsSet("builder") {
		return c.String("builder"), "--builder"
	}
	for _, variable := range []string{"BUILDX_BUILDER", "BUILDKIT_HOST"} {
		if name := p.env[variable]; name != "" {
			return name, "$" + variable
		}
	}
	return "", ""
}

func (p *process) openBuilder(ctx context.Context, c *cli.Context) (*builder.Builder, error) {
	own, err := p.daemonOptions(c)
	if err != nil {
		return nil, err
	}
	name, _ := p.namedBuilder(c)
	o := builder.Options{
		Address: name,
		CACert:  c.String("tlscacert"), Cert: c.String("tlscert"), Key: c.String("tlskey"),
		Own: own,
	}
	if name == "" {
		return builder.Open(ctx, o)
	}
	driver := ""
	if !strings.Contains(name, "://") {
		if o.CACert+o.Cert+o.Key != "" {
			return nil, usagef("--tlscacert, --tlscert and --tlskey are for an address, and %q is a name", name)
		}
		conn, err := docker.New(p.env).Connect(ctx, name, askedPlatforms(c))
		if err != nil {
			return nil, err
		}
		if conn.Address != "" {
			o.Address = conn.Address
		}
		o.CACert, o.Cert, o.Key, o.ServerName = conn.CACert, conn.Cert, conn.Key, conn.ServerName
		o.Dial, o.Session, o.Wait, o.Done = conn.Dial, conn.Session, conn.Wait, conn.Close
		driver = fmt.Sprintf(", node %q of the %s driver", conn.Node, conn.Driver)
	}
	p.note("using builder %q%s", name, driver)
	return builder.Open(ctx, o)
}

// askedPlatforms are those of --platform, which may be lists.
func askedPlatforms(c *cli.Context) []string {
	asked := strings.Split(strings.Join(c.StringSlice("platform"), ","), ",")
	return slices.DeleteFunc(asked, func(s string) bool { return s == "" })
}

// A destination is the Docker Engine that an image is for.
type destination struct {
	*docker.Engine       // nil: none
	byDefault      bool  // nothing but its answer speaks for it
	why            error // there is none, although nothing speaks against one
}

// whereTo returns the Docker Engine of the current context where the image is for it: with --load, or
// where nothing else is said and it answers. Without --load no error is one.
func (p *process) whereTo(c *cli.Context, want *wanted) (destination, error) {
	load := want.load()
	if !load {
		off, _ := strconv.ParseBool(p.env["BUILDX_NO_DEFAULT_LOAD"])
		if c.Command.Name != "build" || c.IsSet("load") || len(want.outputs) > 0 || want.push || off {
			return destination{}, nil
		}
	}
	engine, err := p.findEngine(c.Context)
	if err == nil && len(askedPlatforms(c)) > 1 {
		var takes bool
		if takes, err = engine.TakesIndex(c.Context); err == nil && !takes {
			err = &platformsError{host: engine.Host}
		}
		if err != nil {
			engine.Close()
		}
	}
	if err == nil {
		return destination{Engine: engine, byDefault: !load}, nil
	}
	if c.Err() != nil {
		return destination{}, err
	}
	if load {
		return destination{}, fmt.Errorf("loading into Docker: %w", err)
	}
	return destination{why: err}, nil
}

// platformsError says that an Engine holds images of one platform only.
type platformsError struct{ host string }

func (e *platformsError) Error() string {
	return fmt.Sprintf("the Docker Engine at %q keeps no image for several platforms", e.host)
}

// findEngine returns the Docker Engine of the current context, once it has answered.
func (p *process) findEngine(ctx context.Context) (*docker.Engine, error) {
	ep, err := docker.New(p.env).Endpoint("")
	if err != nil {
		return nil, err
	}
	return ep.Open(ctx)
}

// saveFromDocker returns what docker save writes of an image.
func (p *process) saveFromDocker(ctx context.Context, name string) (io.ReadCloser, error) {
	engine, err := p.findEngine(ctx)
	if err != nil {
		return nil, err
	}
	saved, err := engine.Save(ctx, name)
	if err != nil {
		engine.Close()
		return nil, err
	}
	return &savedImage{ReadCloser: saved, engine: engine}, nil
}

// atOnce is how long an Engine may take to say whether it has an image that nobody has said it has.
const atOnce = time.Second

// inDocker reports whether the Docker Engine of the current context has an image, if it answers at once.
func (p *process) inDocker(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, atOnce)
	defer cancel()
	engine, err := p.findEngine(ctx)
	if err != nil {
		return false
	}
	defer engine.Close()
	id, err := engine.ID(ctx, name)
	if err != nil || id == "" {
		return false
	}
	p.note("%s is that of the Docker Engine at %q", name, engine.Host)
	return true
}

type savedImage struct {
	io.ReadCloser
	engine *docker.Engine
}

func (s *savedImage) Close() error { return errors.Join(s.ReadCloser.Close(), s.engine.Close()) }

// load gives the image to the Docker Engine, unless that has it.
func (to destination) load(ctx context.Context, p *process, d *delivery, res *kedge.Result) error {
	if to.has(ctx, d.names, ids(res)) {
		p.note("Docker at %q has it already", to.Host)
		return nil
	}
	loaded, err := publish.Load(ctx, d.store, d.desc, d.names, to.Load)
	if err != nil {
		return fmt.Errorf("loading into Docker at %q: %w", to.Host, err)
	}
	for _, name := range loaded {
		p.note("loaded %s", name)
	}
	return nil
}

// ids are what an Engine may call an image: the digest of its manifest or index, or that of its config.
func ids(res *kedge.Result) []digest.Digest {
	ids := []digest.Digest{res.Image.Top().Digest}
	if len(res.Image.Manifests) == 1 {
		ids = append(ids, res.Image.Manifests[0].Config)
	}
	return ids
}

// id returns what the image is called by docker run: in the Engine that it was loaded into the ID that it
// has there, and else its digest.
func (to destination) id(ctx context.Context, res *kedge.Result) digest.Digest {
	all := ids(res)
	if to.Engine != nil {
		for _, id := range all {
			if to.is(ctx, id.String(), all) {
				return id
			}
		}
	}
	return all[0]
}

// has reports whether the Engine knows the image, by one of its IDs, under all of its names.
func (to destination) has(ctx context.Context, names []string, ids []digest.Digest) bool {
	if len(names) == 0 {
		return slices.ContainsFunc(ids, func(id digest.Digest) bool { return to.is(ctx, id.String(), ids) })
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !to.is(ctx, name, ids) })
}

func (to destination) is(ctx context.Context, name string, ids []digest.Digest) bool {
	id, err := to.ID(ctx, name)
	return err == nil && slices.Contains(ids, digest.Digest(id))
}

// sayNowhere says that the image is in kedge's store only.
func (to destination) sayNowhere(p *process, d *delivery) {
	name := d.desc.Digest.String()
	if len(d.names) > 0 {
		name = d.names[0]
	}
	p.note("the image is in kedge's store only: %v (later: kedge export %s -o type=docker,dest=- | docker load)", to.why, name)
}

// sayWhere prints which builder a build would use, and where its image would go.
func (p *process) sayWhere(c *cli.Context) {
	builds, loads := "kedge's own builder", ""
	if name, by := p.namedBuilder(c); name != "" {
		builds = fmt.Sprintf("%q, by %s", name, by)
		if !strings.Contains(name, "://") {
			b, err := docker.New(p.env).Builder(name)
			if err != nil {
				builds += ": " + err.Error()
			} else {
				builds += fmt.Sprintf(": the %s driver, %s", b.Driver, counted(len(b.Nodes), "node"))
			}
		}
	}
	engine, err := p.findEngine(c.Context)
	if err != nil {
		loads = err.Error()
	} else {
		loads = fmt.Sprintf("the Docker Engine at %q, by context %q", engine.Host, engine.Context)
		engine.Close()
	}
	fmt.Fprintf(p.stdout, "builds   %s\nloads    %s\n", builds, loads)
}

// whereAdvice returns what to do where a builder or an Engine is not to be had; it is empty for other
// errors.
func whereAdvice(err error) string {
	var (
		exporter  *builder.ExporterError
		nobody    *docker.NotFoundError
		nodes     *docker.NodeError
		stopped   *docker.StoppedError
		elsewhere *docker.ForeignError
		engine    *docker.EngineError
		several   *platformsError
		dconfig   *docker.FileError
		dcontext  *docker.ContextError
	)
	switch {
	case errors.As(err, &exporter):
		return "turn on containerd's image store (docs/builders.md), or leave --builder out to use kedge's own builder: the image is loaded into Docker all the same"
	case errors.As(err, &nobody):
		return fmt.Sprintf("docker buildx ls lists %s; an address is written tcp://HOST:PORT or unix:///PATH", strings.Join(nobody.Known, ", "))
	case errors.As(err, &nodes):
		return "a build runs on one node: ask for platforms that one node was created with, as docker buildx inspect says"
	case errors.As(err, &stopped):
		return fmt.Sprintf("docker buildx inspect --bootstrap %s makes it", stopped.Builder)
	case errors.As(err, &elsewhere):
		return fmt.Sprintf("DOCKER_CONTEXT=%s, or docker context use %s, makes it the current one", elsewhere.Name, elsewhere.Name)
	case errors.As(err, &several):
		return "turn on containerd's image store (docs/builders.md), or build for one platform"
	case errors.As(err, &engine):
		return "does Docker run there, and may you use it? kedge builds without it, too: leave out --load, or its builder"
	case errors.As(err, &dconfig):
		return "docker's own commands write that file: mend or remove it"
	case errors.As(err, &dcontext):
		return "docker context ls lists what there is; $DOCKER_HOST and $DOCKER_CONTEXT choose"
	}
	return ""
}
