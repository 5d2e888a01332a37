package kedge

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
)

// ArgsLabel is the label of an image that names the build args it was built with.
const ArgsLabel = frontend.ArgsLabel

// An export is what the builders made in one pass, as they made it.
type export struct {
	result *builder.Result // of all shares
	shares []share
	ingest *image.Ingest
	clock  time.Duration // how far the clock of its steps was moved
}

// close ends the export's hold on the store. A nil export has none.
func (e *export) close() {
	if e != nil && e.ingest != nil {
		e.ingest.Close()
	}
}

// solve makes the first pass.
func (p *plan) solve(ctx context.Context, first builder.Pass) (*export, error) {
	return p.pass(ctx, p.shares(first), nil, "", image.IngestOptions{Check: p.options.NoCache})
}

// A SecondBuildError says that the first build succeeded and the second failed, so that nothing could be
// compared.
type SecondBuildError struct {
	Err   error
	Moved bool // its clock was moved
}

func (e *SecondBuildError) Error() string {
	return fmt.Sprintf("the first build succeeded, and the second failed: %v", e.Err)
}

func (e *SecondBuildError) Unwrap() error { return e.Err }

// solveAgain makes the pass that verifies first, late enough for a clock to show another time.
func (p *plan) solveAgain(ctx context.Context, first *export) (*export, error) {
	if err := sleep(ctx, secondStart(first.result, len(clockKept(p.options.Vary, first.result)) > 0).Sub(p.env.now())); err != nil {
		return nil, err
	}
	second, err := p.pass(ctx, p.secondShares(first), &first.result.Resolution, "building a second time", image.IngestOptions{Second: true})
	if err != nil && ctx.Err() == nil {
		return nil, &SecondBuildError{err, p.options.Vary.Clock != 0}
	}
	if second != nil {
		second.clock = p.options.Vary.Clock
	}
	return second, err
}

// pass has the builders make their shares of one pass. resolved is what an earlier pass built from, or nil.
func (p *plan) pass(ctx context.Context, shares []share, resolved *builder.Resolution, title string, o image.IngestOptions) (*export, error) {
	req := p.request
	for attempt := 1; ; attempt++ {
		e := &export{}
		shown, wait := p.env.display(req, title)
		err := p.build(ctx, e, shown, shares, resolved, o)
		wait()
		if err == nil {
			return e, nil
		}
		e.close()
		var again bool
		if req, again = builder.Again(req, err, attempt); !again {
			return nil, err
		}
	}
}

// passAgain has the builders send once more what e's ingest needs of the image.
func (p *plan) passAgain(ctx context.Context, e *export) (*export, error) {
	again := &export{ingest: e.ingest}
	shown, wait := p.env.display(p.request, "exporting")
	defer wait()
	return again, p.build(ctx, again, shown, e.again(builder.Repeat), &e.result.Resolution, image.IngestOptions{})
}

// release removes from the builder's cache what a second pass left there. It does so after an interrupt, too.
func (p *plan) release(ctx context.Context, second *export) error {
	if second == nil {
		return nil
	}
	var err error
	for _, s := range second.shares {
		err = errors.Join(err, s.by.Release(context.WithoutCancel(ctx), s.result))
	}
	return err
}

// canonicalise writes the image of an export. If it needs a layer that the builder did not send, the builder exports
// the image again.
func (p *plan) canonicalise(ctx context.Context, e *export) (store.Image, error) {
	img, err := p.write(ctx, e)
	for notSent := (*image.NotSentError)(nil); errors.As(err, &notSent); {
		var again *export
		if again, err = p.passAgain(ctx, e); err == nil {
			img, err = p.write(ctx, again)
		}
	}
	return img, p.locateSecrets(err, e.result)
}

func (p *plan) write(ctx context.Context, e *export) (store.Image, error) {
	var downloads []digest.Digest
	if d := p.request.Downloads; d != nil {
		for _, body := range d.Record.Bodies() {
			downloads = append(downloads, body.Digest)
		}
	}
	var sources []image.Source
	for _, platform := range e.result.Platforms {
		src := image.Source{
			Platform: platform.Platform, BaseLayers: platform.BaseLayers, BaseHistory: platform.BaseHistory, BaseRef: platform.BaseRef,
			Keep: map[int][]string{}, Run: map[int]bool{}, Mounts: map[int]bool{},
			Copies: map[int][]rules.Copy{}, Inputs: map[int][]string{}, Lines: map[int]int{}, File: p.name, Copied: map[int]bool{},
			Text: p.words(e.result, platform.Steps), Texts: map[int]string{},
			Downloads: downloads, Clock: e.clock,
		}
		for i, step := range platform.Steps {
			at := platform.BaseLayers + i
			src.Run[at], src.Mounts[at], src.Lines[at] = step.Run, step.Mounts, step.Line
			src.Copied[at] = len(step.Copies) > 0 && !step.Removes
			src.Texts[at] = texts(e.result, step)
			if err := p.opaque(e.result, step); err != nil {
				return store.Image{}, err
			}
			if step.Run {
				src.Copies[at], src.Inputs[at] = copied(step)
			}
			if keep := p.parsed.Keep(step.Line); len(keep) > 0 {
				src.Keep[platform.BaseLayers+i] = keep
			}
		}
		sources = append(sources, src)
	}
	labels, dropped := map[string]string{ArgsLabel: frontend.Hash(e.result.Args)}, []string(nil)
	if p.target != p.declared {
		labels[store.TargetLabel] = p.target
	} else {
		dropped = append(dropped, store.TargetLabel) // of a base image on this machine
	}
	return e.ingest.Write(ctx, e.result.Root, sources, image.Options{
		Labels: labels, DropLabels: dropped,
		Rules: p.rules, Annotations: p.options.Annotations, Secrets: p.secrets,
	})
}

// opaque returns a *[image.WhiteoutError] if a step copies a file from a context that would hide a folder's
// content when the image is unpacked. In a layer it looks as if the builder had written it.
func (p *plan) opaque(r *builder.Result, step frontend.Step) error {
	for _, s := range append(step.From, step) {
		for _, take := range s.Takes {
			mount, _ := strings.CutPrefix(take.Source, "local://")
			for _, name := range r.Sent[p.request.Directories()[mount]] {
				if path.Base(name) == ".wh..wh..opq" && takesPath(take, filepath.ToSlash(name)) {
					return &image.WhiteoutError{Path: name, File: p.name, Line: s.Line}
				}
			}
		}
	}
	return nil
}

// copied returns what a COPY takes from another stage, and the paths to which COPY and ADD brought files in that
// stage.
func copied(step frontend.Step) (copies []rules.Copy, inputs []string) {
	for _, c := range step.Copies {
		copies = append(copies, rules.Copy(c))
	}
	for _, from := range step.From {
		for _, c := range from.Copies {
			inputs = append(inputs, c.To, path.Join(c.To, path.Base(c.From)))
		}
	}
	return copies, inputs
}

// words returns what the Dockerfile and the arguments of a build say.
func (p *plan) words(r *builder.Result, steps []frontend.Step) string {
	return string(p.text) + "\n" + texts(r, steps...)
}

// texts returns the text of steps and of those that they copy from, and the values of the build's arguments.
func texts(r *builder.Result, steps ...frontend.Step) string {
	var text strings.Builder
	for _, step := range steps {
		for _, s := range append(slices.Clone(step.From), step) {
			text.WriteString(s.Text + "\n")
		}
	}
	for _, v := range r.Args {
		text.WriteString(v.Value + "\n")
	}
	return text.String()
}

// secondStart returns when the second build may start, so that a clock that a step records shows another
// time than in the first build. Every step starts at least two seconds after its counterpart did, and one
// second after that finished: clocks may count in seconds or, as in zip files, in pairs of seconds. Cached
// steps finished before the first build started, perhaps only just. If minute is set, the second build
// starts in another minute.
func secondStart(first *builder.Result, minute bool) time.Time {
	earliest := []time.Time{first.LastRunStarted.Add(2 * time.Second), first.LastRunFinished.Add(time.Second)}
	if minute {
		earliest = append(earliest, first.Finished.Truncate(time.Minute).Add(time.Minute+time.Second))
	}
	start := first.Started.Add(2 * time.Second)
	for _, t := range earliest {
		if t.After(start) {
			start = t
		}
	}
	return start
}

// sleep returns after d, or with ctx's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
