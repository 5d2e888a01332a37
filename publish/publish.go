// Package publish delivers an image of kedge's store: to registries, a Docker Engine, archives, OCI image
// layouts and folders.
//
//	d, err := publish.Prepare(ctx, publish.Wanted{Tags: []string{"example.com/app:1"}, Push: true}, env)
//	if err != nil {
//		return err // it cannot be delivered: do not build it
//	}
//	defer d.Close()
//	...
//	receipt, err := d.Deliver(ctx, st, img, argsHash)
package publish

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
)

// Wanted says where an image goes. The zero value leaves it in the store, without a name.
type Wanted struct {
	Tags    []string // names; Names says what they become
	Outputs []Output
	Push    bool // push it under Tags
	Load    bool // load it into the Docker Engine under Tags
	// LoadDefault loads it if there are no Outputs, it is not pushed and a Docker Engine answers.
	LoadDefault bool
	Platforms   int // number of platforms that are asked for
}

// A UsageError says that a Wanted contradicts itself or is impossible.
type UsageError struct{ Reason string }

func (e *UsageError) Error() string { return e.Reason }

func usagef(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// Check returns a *UsageError unless every part of w can be delivered, and another error if a file cannot
// be written where it is wanted. It writes nothing.
func (w Wanted) Check() error {
	stdout := false
	for _, o := range w.Outputs {
		if o.Dest == "-" && stdout {
			return usagef("two outputs are for standard output: give one of them dest=FILE")
		}
		stdout = stdout || o.Dest == "-"
		if err := o.check(); err != nil {
			return err
		}
		if o.Push && len(w.namesOf(o)) == 0 {
			return usagef("an output with push=true has no name: -t NAME, or name=NAME in it")
		}
		if tagged := firstTagged(w.namesOf(o)); o.ByDigest && tagged != "" {
			return usagef("can't push tagged ref %s by digest", tagged) // in BuildKit's words
		}
	}
	if w.Push && len(w.Tags) == 0 {
		return usagef("--push needs a name: -t NAME")
	}
	if _, err := w.names("0123456789ab"); err != nil {
		return &UsageError{err.Error()}
	}
	return nil
}

// Stdout reports whether an output goes to standard output.
func (w Wanted) Stdout() bool {
	return slices.ContainsFunc(w.Outputs, func(o Output) bool { return o.Dest == "-" })
}

// Ships reports whether the image leaves this machine: to a registry, an archive or a layout.
func (w Wanted) Ships() bool { return w.Push || slices.ContainsFunc(w.Outputs, Output.ships) }

// Files reports whether an output has the files of the image instead of the image.
func (w Wanted) Files() bool { return slices.ContainsFunc(w.Outputs, Output.files) }

// namesOf returns the names of an output. Tags replace its own names, like in docker.
func (w Wanted) namesOf(o Output) []string {
	if len(w.Tags) > 0 {
		return w.Tags
	}
	return o.Names
}

// names returns every name of the image in full, each once.
func (w Wanted) names(argsHash string) ([]string, error) {
	var all []string
	for _, tags := range append([][]string{w.Tags}, w.outputNames()...) {
		full, err := Names(tags, argsHash)
		if err != nil {
			return nil, err
		}
		for _, name := range full {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all, nil
}

func (w Wanted) outputNames() [][]string {
	var all [][]string
	for _, o := range w.Outputs {
		all = append(all, w.namesOf(o))
	}
	return all
}

// Env holds the parts of the process that a delivery uses. Engine may be nil if nothing is loaded.
type Env struct {
	Stdout io.Writer
	// Engine finds the Docker Engine.
	Engine func(context.Context) (Engine, error)
	// Credentials returns what to log in to a registry with. Both are empty for none; a secret without a
	// user is an identity token. Docker Hub is "docker.io".
	Credentials func(host string) (user, secret string, err error)
}

// A Delivery knows how an image gets to where it is wanted.
type Delivery struct {
	wanted Wanted
	env    Env
	engine Engine // nil for none
	// missing says why the image is not loaded, although nothing speaks against it.
	missing error
}

// Prepare checks w before the image is built, and connects to the Docker Engine if the image is for it. If only LoadDefault asks for one, a missing Engine is no error. The caller must close the
// Delivery.
func Prepare(ctx context.Context, w Wanted, env Env) (*Delivery, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	d := &Delivery{wanted: w, env: env}
	load := w.Load || slices.ContainsFunc(w.Outputs, Output.load)
	if !load && (!w.LoadDefault || len(w.Outputs) > 0 || w.Push) {
		return d, nil
	}
	engine, err := connect(ctx, w, env)
	switch {
	case err == nil:
		d.engine = engine
		d.wanted.Load = w.Load || !load
	case ctx.Err() != nil:
		return nil, err
	case load:
		return nil, fmt.Errorf("loading into Docker: %w", err)
	default:
		d.missing = err
	}
	return d, nil
}

// A Receipt says what became of an image.
type Receipt struct {
	Names []string // in full
	// ID is what docker run calls the image: in the Engine that has it the ID there, else its digest.
	ID    digest.Digest
	Steps []Step // in their order
	// NotLoaded says why the image is in the store only. It is nil if the image was loaded or is not for an
	// Engine.
	NotLoaded error
}

// A Step is one thing that was done with an image.
type Step struct {
	Action Action
	Name   string // of the image; for Present that of the Engine
}

// An Action is what was done.
type Action string

const (
	Pushed  Action = "pushed"
	Loaded  Action = "loaded"
	Present Action = "present" // the Engine had the image already
)

// Deliver names the image, which was built with the args of argsHash, and brings it everywhere it is wanted.
// If it fails, the Receipt has the steps before the failure.
func (d *Delivery) Deliver(ctx context.Context, st *store.Store, img store.Image, argsHash string) (Receipt, error) {
	r := Receipt{ID: img.Top().Digest, NotLoaded: d.missing}
	names, err := d.wanted.names(argsHash)
	if err != nil {
		return r, &UsageError{err.Error()}
	}
	r.Names = names
	if len(names) > 0 {
		if err := st.Tag(ctx, names, img.Top()); err != nil {
			return r, err
		}
	}
	outputs := slices.Clone(d.wanted.Outputs)
	if d.wanted.Load {
		outputs = append(outputs, Output{Type: Docker})
	}
	if d.wanted.Push {
		outputs = append(outputs, Output{Type: Image, Push: true})
	}
	for _, o := range outputs {
		full, err := Names(d.wanted.namesOf(o), argsHash)
		if err != nil {
			return r, &UsageError{err.Error()}
		}
		if o.load() {
			full = asked(full)
		}
		steps, err := d.output(ctx, st, img, full, o)
		r.Steps = append(r.Steps, steps...)
		if err != nil {
			return r, err
		}
	}
	r.ID = d.id(ctx, img)
	return r, nil
}

// output delivers the image as one output.
func (d *Delivery) output(ctx context.Context, st *store.Store, img store.Image, names []string, o Output) ([]Step, error) {
	if o.load() {
		return d.load(ctx, st, img, names)
	}
	if err := o.Write(ctx, st, img.Top(), names, d.env.Stdout); err != nil || !o.Push {
		return nil, err
	}
	if err := push(ctx, st, img.Top(), names, pushOptions{byDigest: o.ByDigest, credentials: d.env.Credentials}); err != nil {
		return nil, err
	}
	if o.ByDigest {
		names = byDigest(names, img.Top().Digest)
	}
	return steps(Pushed, names), nil
}

func steps(a Action, names []string) []Step {
	var all []Step
	for _, name := range names {
		all = append(all, Step{a, name})
	}
	return all
}

// Close ends the connection to the Docker Engine.
func (d *Delivery) Close() error {
	if d.engine == nil {
		return nil
	}
	return d.engine.Close()
}
