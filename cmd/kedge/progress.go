package main

import (
	"context"
	"fmt"

	"github.com/kedge-build/kedge/report"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/urfave/cli/v2"
)

// A view says how much a verb prints on stderr.
type view struct {
	mode  progressui.DisplayMode // of a build's progress
	quiet bool                   // print errors alone, and one digest as the answer
	debug bool                   // print details of warnings and errors
}

// parseView reads --progress, -q and -D. To the verb build, -q and --progress=quiet mean the same, as docker has
// it; --progress=none and $BUILDKIT_PROGRESS only change how progress is shown.
func (p *process) parseView(c *cli.Context) (view, error) {
	v := view{mode: progressui.DisplayMode(c.String("progress")), quiet: c.Bool("quiet"), debug: c.Bool("debug")}
	env := progressui.DisplayMode(p.env["BUILDKIT_PROGRESS"])
	if v.mode == progressui.AutoMode && env != "" {
		v.mode = env
	}
	fromEnv := v.mode == env
	switch v.mode {
	case progressui.AutoMode:
	case progressui.TtyMode, progressui.PlainMode, progressui.RawJSONMode:
		if v.quiet && !fromEnv {
			return v, usagef("-q shows no progress, and --progress=%s does: which?", v.mode)
		}
	case progressui.QuietMode:
		v.quiet = v.quiet || !fromEnv && c.Command.Name == "build"
	case "none":
		v.mode = progressui.QuietMode
	case "":
		v.mode = progressui.AutoMode // the verb has no such flag
	default:
		return v, usagef("progress %q is not auto, tty, plain, rawjson, none or quiet", v.mode)
	}
	if v.quiet {
		v.mode = progressui.QuietMode
	}
	return v, nil
}

// display shows the progress of a build as BuildKit does. The title is empty for the first build.
func (p *process) display(title string) (chan *client.SolveStatus, func()) {
	if p.screen != nil {
		return p.screen.display(p.screenName, title, p.warn)
	}
	if plain := p.view.mode == progressui.PlainMode || p.view.mode == progressui.AutoMode && !isTerminal(p.stderr); plain && title != "" {
		p.note("%s", title) // its steps are counted from 1 again
	}
	status := make(chan *client.SolveStatus)
	done := make(chan struct{})
	var warnings []client.VertexWarning
	options := []progressui.DisplayOpt{progressui.WithPhase(title)}
	if p.builder != "" && title == "" { // in the words of docker buildx
		options = append(options, progressui.WithDesc(fmt.Sprintf("building with %q instance using %s driver", p.builder, p.driver), p.driver+":"+p.builder))
	}
	d, err := progressui.NewDisplay(p.stderr, p.view.mode, options...)
	if err != nil {
		d, err = progressui.NewDisplay(p.stderr, progressui.PlainMode, options...)
	}
	go func() {
		defer close(done)
		if err == nil {
			// It ends when status is closed, so that an interrupted build is shown to its end.
			warnings, _ = d.UpdateFrom(context.Background(), status)
		}
		for range status { // a build must not wait for a display that has ended
		}
	}()
	return status, func() {
		<-done
		if title == "" { // the other builds have the same warnings
			p.warn(warnings)
			warnings = nil
		}
	}
}

// warn prints BuildKit's warnings after a build.
func (p *process) warn(warnings []client.VertexWarning) {
	if p.view.mode == progressui.QuietMode || p.view.mode == progressui.RawJSONMode {
		return
	}
	if len(warnings) == 0 {
		return
	}
	if !p.view.debug {
		p.say("%s (-D says more):", report.Counted(len(warnings), "warning"))
	} else {
		p.say("%s:", report.Counted(len(warnings), "warning"))
	}
	for _, w := range warnings {
		fmt.Fprintf(p.stderr, " - %s\n", w.Short)
		if !p.view.debug {
			continue
		}
		for _, line := range w.Detail {
			fmt.Fprintf(p.stderr, "   %s\n", line)
		}
		if w.URL != "" {
			fmt.Fprintf(p.stderr, "   %s\n", w.URL)
		}
		if w.SourceInfo != nil && w.Range != nil {
			src := errdefs.Source{Info: w.SourceInfo, Ranges: w.Range}
			_ = src.Print(p.stderr) // the rest is still useful without it
		}
	}
}
