package builder

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/network/relay"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Downloads say how kedge serves what RUN steps download. The steps then have no network.
type Downloads struct {
	// Options has the record, which a pass that may add to it changes. Its functions are not used.
	network.Options
	// All records every step, without the builder's cache. Steps are otherwise served from the record, and
	// recorded if the record does not know them.
	All bool
	// Asked are the IDs of steps that an earlier attempt found to ask for something unexpected: those of all its
	// AskedErrors.
	Asked map[string]bool
}

// with returns d after an attempt that ended with e.
func (d *Downloads) with(e *AskedError) *Downloads {
	again := *d
	again.Asked = maps.Clone(d.Asked)
	if again.Asked == nil {
		again.Asked = map[string]bool{}
	}
	for _, s := range e.Steps {
		again.Asked[s.ID] = true
	}
	return &again
}

// An AskedError says that a build has to begin again, because steps ask for downloads that they were not
// expected to ask for: they need another cache key. [Again] makes the request.
type AskedError struct{ Steps []network.Step }

func (e *AskedError) Error() string {
	return fmt.Sprintf("%s asks for downloads that the record does not have", e.Steps[0].Name)
}

// A StrandedError says that a step failed whose network was that of another client. BuildKit executes equal
// steps of two builds once, and the other build has ended.
type StrandedError struct{ Err error }

func (e *StrandedError) Error() string { return e.Err.Error() }

func (e *StrandedError) Unwrap() error { return e.Err }

// maxAttempts bounds how often a build begins again. Each attempt gives at least one step its final key.
const maxAttempts = 1000

// Again returns the request for another attempt, if err says that there has to be one. attempt counts from 1.
func Again(req *Request, err error, attempt int) (*Request, bool) {
	var asked *AskedError
	var stranded *StrandedError
	var damaged *DamagedError
	var restored *network.RestoredError
	again := *req
	switch {
	case errors.As(err, &asked) && attempt < maxAttempts:
		again.Downloads = req.Downloads.with(asked)
	case errors.As(err, &stranded) && attempt == 1:
	case errors.As(err, &restored) && attempt < maxAttempts:
	case errors.As(err, &damaged) && damaged.Kept == nil && attempt <= 2:
	default:
		return req, false
	}
	return &again, true
}

// A RelayError says that kedge has no relay for a platform, whose RUN steps therefore cannot have locked
// downloads.
type RelayError struct{ Architecture string }

func (e *RelayError) Error() string {
	return fmt.Sprintf("downloads of steps for linux/%s cannot be locked: this kedge has no relay for it", e.Architecture)
}

// A stepMode says from where a step gets its downloads, and what its cache key has of them.
type stepMode string

const (
	replayed stepMode = "replayed" // the record; its own answers
	quiet    stepMode = "quiet"    // nothing is asked for, it is expected; nothing
	unknown  stepMode = "unknown"  // the record; all answers, because the record does not know the step
	recorded stepMode = "recorded" // the record and the network; a number, because the result is for this build alone
)

// A stepKey is the mode of a step with the part of the cache key.
type stepKey struct {
	mode stepMode
	key  string
}

// downloads serves the downloads of one pass. A nil *downloads leaves the network of steps as it is.
type downloads struct {
	*Downloads
	locked bool // nothing may be added
	salt   int32
	repeat bool // the steps come from the builder's cache
	caches bool // recorded steps have cache mounts of their own
	second bool

	replayer, recorder *network.Proxy
	images             map[string]relayImages  // by architecture
	store              content.Store           // has their blobs
	steps              map[string]network.Step // by place
	byID               map[string]network.Step
	keys               map[string]stepKey       // by ID
	vertices           map[digest.Digest]string // IDs
	stop               context.CancelFunc       // ends the execution of the steps

	mu       sync.Mutex
	asked    []network.Step
	err      error
	checked  map[string]bool // steps for which the daemon asked this session for the socket
	refused  []*network.UnreplayableError
	troubles map[string]error    // of origins, by step
	names    map[string][]string // that steps looked up
}

// newDownloads returns what serves a pass over req, or nil.
func newDownloads(req *Request, pass Pass) *downloads {
	if req.Downloads == nil {
		return nil
	}
	d := &downloads{
		Downloads: req.Downloads, locked: req.Locked, salt: newSalt(), second: pass.IsSecond(),
		images: map[string]relayImages{}, store: contentutil.NewBuffer(), steps: map[string]network.Step{}, byID: map[string]network.Step{},
		keys: map[string]stepKey{}, vertices: map[digest.Digest]string{},
		checked: map[string]bool{}, troubles: map[string]error{}, names: map[string][]string{},
	}
	if first := pass.first; first != nil && !pass.IsSecond() {
		d.repeat, d.keys = true, first.downloadKeys
		d.locked = true // it executes nothing
	}
	o := req.Downloads.Options
	o.NotLocked = func(e *network.NotLockedError) { d.unlocked(e) }
	o.Unreplayable = d.refuse
	o.Warn = d.trouble
	o.Failed = func(_ network.Step, err error) { d.fail(err) }
	d.replayer, d.recorder = network.NewReplayer(o), network.NewRecorder(o)
	return d
}

// check returns an error if the daemon cannot serve downloads through the session.
func (d *downloads) check(have apicaps.CapSet) error {
	if d == nil {
		return nil
	}
	for _, c := range []apicaps.CapID{pb.CapExecMountSSH, pb.CapExecMountSecret, pb.CapExecMetaNetwork, pb.CapSourceOCILayout} {
		if have.Supports(c) != nil {
			return &CapabilityError{"serve the downloads of steps", "v0.26"}
		}
	}
	return nil
}

// plan decides on the key of each step of def.
func (d *downloads) plan(ctx context.Context, j *job, def *definition) error {
	if d == nil {
		return nil
	}
	runs := map[string]frontend.Run{}
	for _, p := range def.parts {
		for _, run := range p.graph.Runs() {
			if !run.Network {
				continue
			}
			if err := d.load(ctx, run.Architecture); err != nil {
				return err
			}
			runs[place(run.Step, run.Args)] = run
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	occurrences := map[string]int{}
	for _, at := range slices.SortedFunc(maps.Keys(runs), func(a, b string) int {
		return cmp.Or(cmp.Compare(runs[a].File, runs[b].File), cmp.Compare(runs[a].Line, runs[b].Line), cmp.Compare(a, b))
	}) {
		run := runs[at]
		stage, text := j.stageOf(run.Line), run.Text
		if text == "" {
			text = "RUN " + strings.Join(run.Args, " ")
		}
		what := stage + "\x00" + text
		s := network.Step{ID: stepID(what, occurrences[what]), Name: text, File: j.req.Dockerfile.String(), Line: run.Line}
		if stage != "" {
			s.Name = stage + ": " + text
		}
		occurrences[what]++
		d.steps[at], d.byID[s.ID] = s, s
		if !d.repeat {
			d.keys[s.ID] = d.key(s, run)
		}
	}
	return nil
}

// settled reports whether the record knows every step, and none must be recorded.
func (d *downloads) settled() bool {
	if d == nil {
		return true
	}
	for _, key := range d.keys {
		if key.mode != replayed {
			return false
		}
	}
	return true
}

// load puts the image of the relay for an architecture into the store.
func (d *downloads) load(ctx context.Context, arch string) error {
	if _, ok := d.images[arch]; ok {
		return nil
	}
	image, ok := relay.New(arch)
	if !ok {
		return &RelayError{Architecture: arch}
	}
	resolver := relay.Resolver(arch)
	for _, blobs := range []map[digest.Digest][]byte{image.Blobs, resolver.Blobs} {
		for dgst, data := range blobs {
			desc := ocispec.Descriptor{Digest: dgst, Size: int64(len(data))}
			if err := content.WriteBlob(ctx, d.store, dgst.String(), bytes.NewReader(data), desc); err != nil {
				return fmt.Errorf("preparing the relay: %w", err)
			}
		}
	}
	d.images[arch] = relayImages{image.Manifest, resolver.Manifest}
	return nil
}

// stepID returns the ID of a step: a hash of its stage and instruction, and of how many equal ones there are
// before it in its stage. It is part of cache keys.
func stepID(what string, occurrence int) string {
	sum := sha256.Sum256([]byte(what + "\x00" + strconv.Itoa(occurrence)))
	return hex.EncodeToString(sum[:8])
}

// place tells the steps of a definition apart.
func place(s frontend.Step, args []string) string {
	if s.Line > 0 {
		return fmt.Sprintf("%s:%d", s.File, s.Line)
	}
	return strings.Join(args, "\x00")
}

// stageOf returns the name of the stage that has a line of the Dockerfile, or the number of one without a name.
// It is empty if the Dockerfile or the line is not known.
func (j *job) stageOf(line int) string {
	stage := ""
	if j.req.Parsed == nil || line == 0 {
		return stage
	}
	for i, s := range j.req.Parsed.Stages {
		if s.Line <= line {
			stage = cmp.Or(s.Name, strconv.Itoa(i))
		}
	}
	return stage
}

// key decides on a step.
func (d *downloads) key(s network.Step, run frontend.Run) stepKey {
	_, known := d.Record.Steps()[s.ID]
	unexpected := d.Asked[s.ID] || !known && len(frontend.Downloads(run.Args)) > 0
	switch {
	case d.All && !d.second, !d.locked && unexpected:
		return stepKey{recorded, strconv.Itoa(int(d.salt))}
	case known, unexpected:
		mode := replayed
		if !known {
			mode = unknown
		}
		return stepKey{mode, d.Record.Digest(s.ID).Encoded()[:32]}
	}
	var none network.Record
	none.AddStep(s)
	return stepKey{quiet, none.Digest(s.ID).Encoded()[:32]}
}

// fail ends the execution of the steps with an error, unless another one has ended it.
func (d *downloads) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = cmp.Or(d.err, err)
	if d.stop != nil {
		d.stop()
	}
}

// unlocked handles a request for something that the record does not have.
func (d *downloads) unlocked(e *network.NotLockedError) {
	if d.locked {
		d.fail(e)
	} else {
		d.restart(e.Step)
	}
}

// restart ends the execution of the steps, so that the build can begin again with another key for one.
func (d *downloads) restart(s network.Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.ContainsFunc(d.asked, func(other network.Step) bool { return other.ID == s.ID }) {
		d.asked = append(d.asked, s)
	}
	if d.stop != nil {
		d.stop()
	}
}

func (d *downloads) refuse(e *network.UnreplayableError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.ContainsFunc(d.refused, func(other *network.UnreplayableError) bool { return *other == *e }) {
		d.refused = append(d.refused, e)
	}
}

func (d *downloads) trouble(s network.Step, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.troubles[s.ID] = err
}

// A RefusedDownloadsError says that a build failed whose steps asked for what no record can hold, or for hosts
// that could not be reached.
type RefusedDownloadsError struct {
	Refused  []*network.UnreplayableError
	Troubles []error
	Silent   []SilentLookup
	Err      error
}

func (e *RefusedDownloadsError) Error() string {
	lines := []string{e.Err.Error()}
	for _, refused := range e.Refused {
		lines = append(lines, refused.Error())
	}
	for _, trouble := range e.Troubles {
		lines = append(lines, trouble.Error())
	}
	for _, silent := range e.Silent {
		lines = append(lines, silent.String())
	}
	return strings.Join(lines, "\n")
}

func (e *RefusedDownloadsError) Unwrap() error { return e.Err }

// stopped reports whether a download ended the build.
func (d *downloads) stopped() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err != nil || len(d.asked) > 0
}

// blame returns the error of a pass: what ended it, if that was about downloads.
func (d *downloads) blame(err error) error {
	if d == nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return d.err
	case len(d.asked) > 0:
		return &AskedError{Steps: slices.Clone(d.asked)}
	case err == nil:
		return nil
	}
	var failed *errdefs.VertexError
	id := ""
	if errors.As(err, &failed) {
		id = d.vertices[digest.Digest(failed.Digest)]
	}
	if key, ok := d.keys[id]; ok && key.mode != recorded && !d.second && !d.checked[id] {
		return &StrandedError{err}
	}
	refused := &RefusedDownloadsError{Refused: slices.Clone(d.refused), Err: err}
	if trouble := d.troubles[id]; trouble != nil {
		refused.Troubles = append(refused.Troubles, trouble)
	}
	refused.Silent = d.silent()
	if len(refused.Refused)+len(refused.Troubles)+len(refused.Silent) == 0 {
		return err
	}
	return refused
}

// A SilentLookup says that a step looked up hosts and sent no request by http there. It may have tried ssh,
// git:// or another protocol, which a step with locked downloads does not have.
type SilentLookup struct {
	Step  network.Step
	Hosts []string
}

func (s SilentLookup) String() string {
	return fmt.Sprintf("%s:%d: looked up %s and sent no request by http there", s.Step.File, s.Step.Line, strings.Join(s.Hosts, ", "))
}

// silent returns the steps that looked up names without a request, in the order of the Dockerfile. d.mu is held.
func (d *downloads) silent() []SilentLookup {
	asked := map[string]bool{}
	note := func(text string) {
		if u, err := url.Parse(text); err == nil {
			asked[u.Hostname()] = true
		}
	}
	for _, e := range d.Record.Entries() {
		note(e.URL)
	}
	for _, e := range d.refused {
		note(e.URL)
	}
	for _, host := range d.Record.Allowed() {
		note("http://" + host)
	}
	var all []SilentLookup
	for id, names := range d.names {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return asked[name] })
		if len(names) > 0 {
			all = append(all, SilentLookup{Step: d.byID[id], Hosts: names})
		}
	}
	slices.SortFunc(all, func(a, b SilentLookup) int { return cmp.Compare(a.Step.Line, b.Step.Line) })
	return all
}

// finish waits for what is being fetched, and has the record list the steps that ran without a download.
// The record is then complete. It is called once, at the end of the pass, which succeeded if ok is set.
func (d *downloads) finish(ctx context.Context, ok bool) error {
	if d == nil {
		return nil
	}
	if !ok {
		// No one waits for what is not there yet.
		stopped, cancel := context.WithCancel(ctx)
		cancel()
		ctx = stopped
	}
	err := errors.Join(d.recorder.Close(ctx), d.replayer.Close(ctx))
	if !ok || err != nil {
		return err
	}
	if d.locked {
		return nil
	}
	for id, key := range d.keys {
		if key.mode == quiet || key.mode == recorded {
			d.Record.AddStep(d.byID[id])
		}
	}
	return nil
}

// expect notes the steps of a rewritten definition.
func (d *downloads) expect(g *frontend.Graph) {
	if d == nil {
		return
	}
	for _, run := range g.Runs() {
		if s, ok := d.steps[place(run.Step, run.Args)]; ok {
			d.vertices[run.Vertex] = s.ID
		}
	}
}

// execute executes the steps of all platforms of a build. What ends that does not end the session, so that
// connections without an answer are open until the daemon has stopped their steps.
func (d *downloads) execute(ctx context.Context, res *gateway.Result) error {
	if d == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.mu.Lock()
	d.stop = stop
	d.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	for _, ref := range append(slices.Collect(maps.Values(res.Refs)), res.Ref) {
		if ref != nil {
			group.Go(func() error { return ref.Evaluate(ctx) })
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("failed to solve: %w", err) // as BuildKit says it during an export
	}
	return nil
}

// report adds to a result the keys that the steps had, and what they asked for and did not get.
func (d *downloads) report(r *Result) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r.downloadKeys, r.Refused = d.keys, d.refused
	if !d.locked {
		r.Silent = d.silent()
	}
}

// leftovers returns the cache mounts that steps had while they were recorded.
func (d *downloads) leftovers() []leftover {
	if d == nil || d.repeat {
		return nil
	}
	for _, key := range d.keys {
		if key.mode == recorded && d.caches {
			return []leftover{{namespace: cacheNamespace(key.key)}}
		}
	}
	return nil
}
