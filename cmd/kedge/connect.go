package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/trace"
	"github.com/urfave/cli/v2"
)

// withBuilder runs a verb that needs a builder.
func (p *process) withBuilder(c *cli.Context, verb func(kedge.Env, kedge.Options) error) error {
	env := kedge.Env{Now: time.Now, Environ: p.environ, Stdin: p.stdin, Auth: p.dockerConfig(), Sums: filepath.Join(p.dataDir(), "sums"), Progress: p.display}
	o, err := p.options(c, env.Auth)
	if err != nil {
		return err
	}
	nodes, other, err := p.openNodes(c)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		defer n.Builder.Close()
	}
	if env.Builder = nodes[0].Builder; len(nodes) > 1 {
		env.Nodes = nodes
	}
	if other != nil {
		defer other.Close()
		env.Second = other
	}
	served := &servedDownloads{process: p, c: c}
	defer served.close()
	env.Downloads = served.open
	if c.IsSet("second-builder") {
		if env.Second, err = p.openNamed(c.Context, c, c.String("second-builder")); err != nil {
			return err
		}
		defer env.Second.Close()
	}
	env.Machine = trace.ReadMachine(os.DirFS("/"))
	local := &localImages{process: p, saved: engineImages{dir: p.engineDir()}}
	defer local.close()
	env.Local = local
	return verb(env, o)
}

// namedBuilder returns the name of the requested builder, and the flag or variable with it. Both are empty for
// kedge's own builder, which an empty --builder requests as well.
func (p *process) namedBuilder(c *cli.Context) (name, by string) {
	if c.IsSet("builder") {
		return c.String("builder"), "--builder"
	}
	for _, variable := range []string{"BUILDX_BUILDER", "BUILDKIT_HOST"} {
		if name := p.env[variable]; name != "" && (variable != "BUILDX_BUILDER" || !p.impliedBuilder(name)) {
			return name, "$" + variable
		}
	}
	if p.plugin == buildxName {
		if name := docker.New(p.env).Used(); name != "" {
			return name, "docker buildx use"
		}
	}
	return "", ""
}

// openBuilder connects to the requested builder, or starts kedge's own.
func (p *process) openBuilder(ctx context.Context, c *cli.Context) (*builder.Builder, error) {
	name, _ := p.namedBuilder(c)
	return p.openNamed(ctx, c, name)
}

// openNamed connects to the builder with a name or an address, or starts kedge's own if the name is empty. Of several
// nodes it takes the first one.
func (p *process) openNamed(ctx context.Context, c *cli.Context, name string) (*builder.Builder, error) {
	o, err := p.builderOptions(c, name)
	if err != nil {
		return nil, err
	}
	if name != "" && !strings.Contains(name, "://") {
		b, err := docker.New(p.env).Builder(name)
		if err != nil {
			return nil, err
		}
		return p.openNode(ctx, b, docker.Share{Node: b.Nodes[0], Platforms: p.askedPlatforms(c)}, o)
	}
	if name != "" {
		p.note("using builder %q", name)
	}
	return builder.Open(ctx, o)
}

// builderOptions returns what flags and environment say of the builder with a name or an address.
func (p *process) builderOptions(c *cli.Context, name string) (o builder.Options, err error) {
	o.Address = name
	if o.Own, err = p.daemonOptions(c); err == nil && name != "" {
		o.CACert, o.Cert, o.Key, err = p.tlsFiles(c, name)
	}
	return o, err
}

// openNode connects to a node of one of buildx's builders, or to the Engine of a context. o is what the command line
// says of the builder.
func (p *process) openNode(ctx context.Context, b *docker.Builder, s docker.Share, o builder.Options) (*builder.Builder, error) {
	conn, err := docker.New(p.env).Connect(ctx, b, s)
	if err != nil {
		return nil, err
	}
	if conn.Address != "" {
		o.Address = conn.Address
	}
	o.CACert, o.Cert, o.Key, o.ServerName = conn.CACert, conn.Cert, conn.Key, conn.ServerName
	o.Dial, o.Session, o.Wait, o.Done = conn.Dial, conn.Session, conn.Wait, conn.Close
	p.note("using builder %q, node %q of the %s driver", b.Name, conn.Node, conn.Driver)
	p.builder, p.driver = b.Name, conn.Driver
	return builder.Open(ctx, o)
}

// tlsFiles returns the files for TLS with the builder that has a name. Of two builders they are for those with a
// tcp:// address.
func (p *process) tlsFiles(c *cli.Context, name string) (ca, cert, key string, err error) {
	ca, cert, key = c.String("tlscacert"), c.String("tlscert"), c.String("tlskey")
	first, _ := p.namedBuilder(c)
	switch second := c.String("second-builder"); {
	case strings.HasPrefix(name, "tcp://"), ca+cert+key == "":
	case strings.HasPrefix(first, "tcp://"), strings.HasPrefix(second, "tcp://"):
		return "", "", "", nil // they are for the other
	case !strings.Contains(name, "://"):
		return "", "", "", usagef("--tlscacert, --tlscert and --tlskey are for an address, and %q is a name", name)
	}
	return ca, cert, key, nil
}

// askedPlatforms returns the platforms of --platform, or of $DOCKER_DEFAULT_PLATFORM if there is none, each once. A value
// can be a list. "local" is this machine's platform, as with docker buildx.
func (p *process) askedPlatforms(c *cli.Context) []string {
	asked := c.StringSlice("platform")
	if value := p.env["DOCKER_DEFAULT_PLATFORM"]; len(asked) == 0 && value != "" {
		asked = []string{value}
	}
	if len(asked) == 0 {
		return nil
	}
	return uniquePlatforms(strings.Split(strings.Join(asked, ","), ","))
}

func uniquePlatforms(words []string) []string {
	var unique []string
	seen := map[string]bool{}
	for _, word := range words {
		if strings.EqualFold(word, "local") {
			local := platforms.DefaultSpec()
			local.OS = "linux" // on macOS, the builder's virtual machine runs Linux
			word = platforms.Format(local)
		}
		key := word
		if parsed, err := platforms.Parse(word); err == nil {
			key = platforms.Format(platforms.Normalize(parsed))
		}
		if !seen[key] {
			seen[key] = true
			unique = append(unique, word)
		}
	}
	return unique
}

// daemonOptions reads the flags for kedge's own builder.
func (p *process) daemonOptions(c *cli.Context) (daemon.Options, error) {
	exe, err := os.Executable()
	if err != nil {
		return daemon.Options{}, err
	}
	if c.Duration("builder-idle") < 0 {
		return daemon.Options{}, usagef("builder-idle %v is negative", c.Duration("builder-idle"))
	}
	own := c.IsSet("second-builder") && c.String("second-builder") == ""
	if name, by := p.namedBuilder(c); name != "" && !own && c.String("buildkitd-config") != "" {
		return daemon.Options{}, usagef("--buildkitd-config is for kedge's own builder, and %s names another", by)
	}
	network := p.env["KEDGE_ROOTLESS_NET"]
	if !slices.Contains([]string{"", "host", "slirp4netns"}, network) {
		return daemon.Options{}, usagef("KEDGE_ROOTLESS_NET %q is not host or slirp4netns", network)
	}
	return daemon.Options{
		Network: network,
		Root:    p.builderRoot(), Serve: []string{exe, "builder", "serve"}, Env: p.environ,
		Buildkitd: p.env["KEDGE_BUILDKITD"], Config: c.String("buildkitd-config"), Idle: c.Duration("builder-idle"),
	}, nil
}
