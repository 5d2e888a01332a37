package main

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/kedge-build/kedge/builder"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
)

// A screen shows the progress of several builds as one, and what they say.
type screen struct {
	process  *process
	terminal bool // its lines move, so what builds say comes at the end

	status chan *client.SolveStatus
	done   chan struct{}
	mu     sync.Mutex // for process.stderr
}

func newScreen(p *process) *screen {
	s := &screen{process: p, status: make(chan *client.SolveStatus), done: make(chan struct{})}
	s.terminal = p.view.mode == progressui.TtyMode || p.view.mode == progressui.AutoMode && isTerminal(p.stderr)
	out := p.stderr
	if !s.terminal {
		out = &lockedWriter{mu: &s.mu, w: p.stderr}
	}
	d, err := progressui.NewDisplay(out, p.view.mode)
	if err != nil {
		d, err = progressui.NewDisplay(out, progressui.PlainMode)
	}
	go func() {
		defer close(s.done)
		if err == nil {
			_, _ = d.UpdateFrom(context.Background(), s.status)
		}
		for range s.status {
		}
	}()
	return s
}

func (s *screen) close() {
	close(s.status)
	<-s.done
}

// display shows one build's progress with a name in front of its steps. It is process.display for a part of the
// screen.
func (s *screen) display(name, title string, warn func([]client.VertexWarning)) (chan *client.SolveStatus, func()) {
	status, done := make(chan *client.SolveStatus), make(chan struct{})
	var warnings []client.VertexWarning
	if title != "" {
		name += " " + title
	}
	go func() {
		defer close(done)
		for st := range status {
			for _, w := range st.Warnings {
				warnings = append(warnings, *w)
			}
			s.status <- builder.Named(st, name)
		}
	}()
	return status, func() {
		<-done
		if title == "" {
			warn(warnings)
			warnings = nil
		}
	}
}

// lines returns a writer for what one build says. Each line has its name in front. On a terminal, the lines are
// kept in later.
func (s *screen) lines(name string, later *bytes.Buffer) io.Writer {
	w := &lineWriter{prefix: name + ": ", w: &lockedWriter{mu: &s.mu, w: s.process.stderr}}
	if s.terminal {
		w.w = later
	}
	return w
}

// A lineWriter writes whole lines, with a prefix.
type lineWriter struct {
	prefix string
	w      io.Writer
	rest   []byte
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		if _, err := l.w.Write([]byte(l.prefix + string(line) + "\n")); err != nil {
			return 0, err
		}
		l.rest = rest
	}
}

// A lockedWriter is a writer for several goroutines.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
