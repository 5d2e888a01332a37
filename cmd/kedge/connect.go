package main

import (
	"context"
	"fmt"
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
	if env.Builder, err = p.openBuilder(c.Context, c); err != nil {
		return err
	}
	served := &servedDownloads{process: p, c: c}
	defer served.close()
	env.Downloads = served.open
	defer env.Builder.Close()
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

// openNamed connects to the builder with a name or an address, or starts kedge's own if the name is empty.
func (p *process) openNamed(ctx context.Context, c *cli.Context, name string) (*builder.Builder, error) {
	own, err := p.daemonOptions(c)
	if err != nil {
		return nil, err
	}
	o := builder.Options{Address: name, Own: own}
	if name == "" {
		return builder.Open(ctx, o)
	}
	if o.CACert, o.Cert, o.Key, err = p.tlsFiles(c, name); err != nil {
		return nil, err
	}
	driver := ""
	if !strings.Contains(name, "://") {
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

// askedPlatforms returns the platforms of --platform, each once. A value can be a list. "local" is this
// machine's platform, as with docker buildx.
func askedPlatforms(c *cli.Context) []string {
	return uniquePlatforms(strings.Split(strings.Join(c.StringSlice("platform"), ","), ","))
}

func uniquePlatforms(words []string) []string {
	var unique []string
	seen := map[string]bool{}
	for _, word := range words {
		word = strings.TrimSpace(word)
		if strings.EqualFold(word, "local") {
			local := platforms.DefaultSpec()
			local.OS = "linux" // on macOS, the builder's virtual machine runs Linux
			word = platforms.Format(local)
		}
		key := word
		if parsed, err := platforms.Parse(word); err == nil {
			key = platforms.Format(platforms.Normalize(parsed))
		}
		if word != "" && !seen[key] {
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
