package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/report"
	"github.com/urfave/cli/v2"
)

func (p *process) builderVerb() *cli.Command {
	return &cli.Command{
		Name: "builder", Usage: "manage kedge's own builder",
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "print whether the builder runs, and which builder a build would use", Action: p.builderStatus},
			{
				Name: "start", Usage: "start the builder; --buildkitd-config applies to later builds until stop",
				Flags: ownBuilderFlags(), Action: p.builderStart,
			},
			{
				Name: "stop", Usage: "stop the builder, and forget the configuration of start",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "stop it even if it is in use"}},
				Action: func(c *cli.Context) error { return daemon.Stop(c.Context, p.builderRoot(), c.Bool("force")) },
			},
			{
				Name: "prune", Usage: "free the part of the builder's cache that no build uses",
				Flags:  append(builderFlags(), &cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also free what belongs to BuildKit itself"}),
				Action: p.builderPrune,
			},
			{Name: "logs", Usage: "print the builder's log", Action: p.builderLogs},
			{
				Name: "serve", Hidden: true, Usage: "run it until it is idle", ArgsUsage: "ROOT",
				Action: func(c *cli.Context) error { return daemon.Serve(c.Context, c.Args().First(), p.stderr) },
			},
		},
	}
}

func (p *process) builderStart(c *cli.Context) error {
	o, err := p.daemonOptions(c)
	if err != nil {
		return err
	}
	o.Keep = o.Config != ""
	lease, err := daemon.Acquire(c.Context, o)
	if err != nil {
		return err
	}
	defer lease.Release()
	fmt.Fprintln(p.stdout, lease.Addr())
	return nil
}

func (p *process) builderPrune(c *cli.Context) error {
	b, err := p.runningBuilder(c)
	if err != nil {
		return err
	}
	defer b.Close()
	freed, err := b.Prune(c.Context, c.Bool("all"))
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "freed %s\n", units.HumanSize(float64(freed)))
	return nil
}

// runningBuilder opens kedge's own builder with the configuration that it runs with. If it does not run, or
// the flags name another builder, it does what openBuilder does.
func (p *process) runningBuilder(c *cli.Context) (*builder.Builder, error) {
	name, _ := p.namedBuilder(c)
	if st, err := daemon.Stat(p.builderRoot()); err == nil && st.Running && name == "" && c.String("buildkitd-config") == "" {
		return builder.Open(c.Context, builder.Options{Address: st.Addr})
	}
	return p.openBuilder(c.Context, c)
}

func (p *process) builderStatus(c *cli.Context) error {
	st, err := daemon.Stat(p.builderRoot())
	if err != nil {
		return err
	}
	if st.Running {
		p.sayRunning(st)
	} else {
		fmt.Fprintln(p.stdout, "stopped")
	}
	p.sayWhere(c)
	return nil
}

// sayRunning prints the status of kedge's own builder.
func (p *process) sayRunning(st daemon.Status) {
	fmt.Fprintf(p.stdout, "running\naddress  %s\nversion  %s\npid      %d\nsince    %s\n", st.Addr, st.Version, st.PID, st.Since.Format(time.RFC3339))
	if st.Config != "" {
		fmt.Fprintf(p.stdout, "config   %s\n", st.Config)
	}
	if st.Network != "" {
		fmt.Fprintf(p.stdout, "rootless network %s\n", st.Network)
	}
	switch {
	case st.InUse:
		fmt.Fprintln(p.stdout, "in use")
	case !st.StopAt.IsZero():
		fmt.Fprintf(p.stdout, "stops    %s, unless it is used\n", st.StopAt.Format(time.RFC3339))
	}
}

func (p *process) builderLogs(*cli.Context) error {
	st, err := daemon.Stat(p.builderRoot())
	if err != nil {
		return err
	}
	f, err := os.Open(st.Log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the builder never ran
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(p.stdout, f)
	return err
}

// sayWhere prints which builder a build would use, and which Docker Engine would get the image.
func (p *process) sayWhere(c *cli.Context) {
	builds, loads := "kedge's own builder", ""
	if name, by := p.namedBuilder(c); name != "" {
		builds = fmt.Sprintf("%q, by %s", name, by)
		if !strings.Contains(name, "://") {
			b, err := docker.New(p.env).Builder(name)
			if err != nil {
				builds += ": " + err.Error()
			} else {
				builds += fmt.Sprintf(": the %s driver, %s", b.Driver, report.Counted(len(b.Nodes), "node"))
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
