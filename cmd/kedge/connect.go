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
	env.Machine = trace.ReadMachine(os.DirFS("/proc"))
	defer env.Builder.Close()
	local := &localImages{process: p}
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
		if name := p.env[variable]; name != "" {
			return name, "$" + variable
		}
	}
	return "", ""
}

// openBuilder connects to the requested builder, or starts kedge's own.
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
	if name, by := p.namedBuilder(c); name != "" && c.String("buildkitd-config") != "" {
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
