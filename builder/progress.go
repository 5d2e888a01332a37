package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// progress records which steps the daemon ran and when. Its times are this machine's.
type progress struct {
	commands map[digest.Digest]string // command lines of the RUN steps
	folders  map[digest.Digest]string // mounts of the steps that sync a folder
	vertexes map[digest.Digest]*client.Vertex
	warnings []*client.VertexWarning // each once, though the frontend is asked more than once
	warned   map[string]bool

	started, finished               time.Time
	lastRunStarted, lastRunFinished time.Time
	ran                             []leftover // without those of the cache, if leftovers count
}

func newProgress() *progress {
	return &progress{
		commands: map[digest.Digest]string{}, folders: map[digest.Digest]string{},
		vertexes: map[digest.Digest]*client.Vertex{}, warned: map[string]bool{},
	}
}

// unseen returns the warnings that were not there before.
func (p *progress) unseen(warnings []*client.VertexWarning) []*client.VertexWarning {
	return slices.DeleteFunc(slices.Clone(warnings), func(w *client.VertexWarning) bool {
		key := fmt.Sprintf("%q %q %v", w.Short, w.URL, w.Range)
		seen := p.warned[key]
		p.warned[key] = true
		return seen
	})
}

// expect adds the steps of a graph that the daemon is about to execute.
func (p *progress) expect(g *frontend.Graph) {
	maps.Copy(p.commands, g.Commands())
	for _, use := range g.Uses() {
		if mount, ok := strings.CutPrefix(use.Op.Identifier, "local://"); ok {
			p.folders[use.Vertex] = mount
		}
	}
}

// watch records the daemon's reports until there are no more, and passes them on to display, which it
// closes. display may be nil. Warnings name the Dockerfile as dockerfile does.
func (p *progress) watch(status <-chan *client.SolveStatus, display chan<- *client.SolveStatus, dockerfile Dockerfile) {
	if display != nil {
		defer close(display)
	}
	for st := range status {
		for _, v := range st.Vertexes {
			p.vertexes[v.Digest] = v
		}
		st.Warnings = p.unseen(st.Warnings)
		for _, w := range st.Warnings {
			w.SourceInfo = dockerfile.Named(w.SourceInfo)
		}
		p.warnings = append(p.warnings, st.Warnings...)
		if display != nil {
			display <- redactedStatus(st)
		}
	}
}

// finish evaluates the reports of a session that has just finished. keep says to remember each step that
// ran.
func (p *progress) finish(started, finished time.Time, keep bool) {
	p.started, p.finished = started, finished
	// The daemon sent its last report a moment ago. The difference is that of the two clocks.
	var last time.Time
	for _, v := range p.vertexes {
		if v.Completed != nil && v.Completed.After(last) {
			last = *v.Completed
		}
	}
	offset := finished.Sub(last)
	for d, v := range p.vertexes {
		if v.Started == nil || v.Completed == nil || v.Cached {
			continue
		}
		args, isRun := p.command(d)
		if isRun {
			if t := v.Started.Add(offset); t.After(p.lastRunStarted) {
				p.lastRunStarted = t
			}
			if t := v.Completed.Add(offset); t.After(p.lastRunFinished) {
				p.lastRunFinished = t
			}
		}
		if keep {
			p.ran = append(p.ran, leftover{name: v.Name, args: args, folder: p.folders[d], from: *v.Started, to: *v.Completed})
		}
	}
}

// failure returns the error of a session, or that of the step that failed if the daemon lost it. BuildKit (0.34)
// does if two mounts of the step are from one stage.
func (p *progress) failure(err error) error {
	if err == nil || !strings.Contains(err.Error(), "releasing already released reference") {
		return err
	}
	return p.own(err, func(v *client.Vertex) bool { _, isRun := p.commands[v.Digest]; return isRun })
}

// stopped returns err, or if ctx has ended, the error of the first step that failed by itself.
func (p *progress) stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return p.own(err, func(*client.Vertex) bool { return true })
}

// own returns the error of the first of some steps that failed by itself, or else err, which is that of a build that was
// stopped at the same time.
func (p *progress) own(err error, some func(*client.Vertex) bool) error {
	var first *client.Vertex
	for _, v := range p.vertexes {
		if v.Error == "" || v.Completed == nil || strings.Contains(v.Error, "context canceled") || !some(v) {
			continue
		}
		if first == nil || v.Completed.Before(*first.Completed) {
			first = v
		}
	}
	if first == nil {
		return err
	}
	return errors.New("failed to solve: " + first.Error)
}

// command returns the command line of a RUN. A step that ignores the cache has a digest of its own in
// the daemon's reports while another build runs the same step.
func (p *progress) command(d digest.Digest) (string, bool) {
	if args, ok := p.commands[d]; ok {
		return args, true
	}
	for vertex, args := range p.commands {
		if digest.FromString(vertex.String()+"-ignorecache") == d {
			return args, true
		}
	}
	return "", false
}
