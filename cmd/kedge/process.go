package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/kedge-build/kedge/store"
	"github.com/moby/buildkit/util/progress/progressui"
)

// A process is what a verb knows of the process that it runs in.
type process struct {
	env            map[string]string
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	plugin         string   // the name by which docker runs this program, if it does
	verbs          []string // of the command line
	view           view     // set before a verb runs
	// builder is the name of one of buildx's builders, if it builds, and driver is its driver.
	builder, driver string
	// screen, if there is one, shows the progress of this process under a name, among others.
	screen     *screen
	screenName string
}

// say prints a message on stderr. stdout is for the answer.
func (p *process) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, "kedge: %s\n", harmless(fmt.Sprintf(format, args...)))
}

// note prints a message that needs no action. With -q and --progress=rawjson it prints nothing.
func (p *process) note(format string, args ...any) {
	if !p.view.quiet && p.view.mode != progressui.RawJSONMode {
		p.say(format, args...)
	}
}

// hint prints what to do about an error.
func (p *process) hint(text string) { fmt.Fprintf(p.stderr, "hint: %s\n", harmless(text)) }

func (p *process) dataDir() string {
	if dir := p.env["XDG_DATA_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "kedge")
	}
	return filepath.Join(p.env["HOME"], ".local", "share", "kedge")
}

func (p *process) builderRoot() string { return filepath.Join(p.dataDir(), "builder") }

func (p *process) storeDir() string { return filepath.Join(p.dataDir(), "store") }

// engineDir has images of Docker Engines that were bases of builds.
func (p *process) engineDir() string { return filepath.Join(p.dataDir(), "engine") }

func (p *process) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, p.storeDir())
}
