package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// daemon is a BuildKit that has a context, and images in which an image's digest is that of its name. It executes
// nothing.
type daemon struct {
	opts   map[string]string
	files  map[string]string // of the context
	moved  map[string]digest.Digest
	inputs map[string]llb.State
	have   []*apicaps.PBCap // of LLB; nil: all

	mu       sync.Mutex
	lookedUp []string
	solved   []*pb.Definition
	warnings []string
}

func (d *daemon) BuildOpts() client.BuildOpts {
	have := d.have
	if have == nil {
		have = pb.Caps.All()
	}
	return client.BuildOpts{Opts: d.opts, LLBCaps: pb.Caps.CapSet(have), Caps: gatewaypb.Caps.CapSet(gatewaypb.Caps.All())}
}

func (d *daemon) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.solved = append(d.solved, req.Definition)
	res := client.NewResult()
	res.SetRef(tree{files: d.files})
	return res, nil
}

func (d *daemon) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookedUp = append(d.lookedUp, ref)
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("layer")}}}
	config.Platform = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		config.Platform = *opt.ImageOpt.Platform
	}
	data, err := json.Marshal(config)
	if _, pinned, ok := strings.Cut(ref, "@"); ok {
		return ref, digest.Digest(pinned), data, err
	}
	if moved, ok := d.moved[ref]; ok {
		return ref, moved, data, err
	}
	return ref, digest.FromString(ref), data, err
}

func (d *daemon) ResolveSourceMetadata(_ context.Context, op *pb.SourceOp, _ sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookedUp = append(d.lookedUp, op.Identifier)
	return &sourceresolver.MetaResponse{Op: op}, nil
}

func (d *daemon) Inputs(context.Context) (map[string]llb.State, error) { return d.inputs, nil }

func (d *daemon) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.ErrUnsupported
}

func (d *daemon) Warn(_ context.Context, _ digest.Digest, msg string, _ client.WarnOpts) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.warnings = append(d.warnings, msg)
	return nil
}

// last returns the operations of the last definition that was solved.
func (d *daemon) last(t *testing.T) (sources map[string]*pb.SourceOp, steps []*pb.ExecOp) {
	t.Helper()
	sources = map[string]*pb.SourceOp{}
	for _, data := range d.solved[len(d.solved)-1].Def {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			t.Fatal(err)
		}
		if src := op.GetSource(); src != nil {
			sources[src.Identifier] = src
		}
		if exec := op.GetExec(); exec != nil {
			steps = append(steps, exec)
		}
	}
	return sources, steps
}

// tree is a folder as a daemon shows it.
type tree struct {
	client.Reference
	files map[string]string
}

func (r tree) ReadFile(_ context.Context, req client.ReadRequest) ([]byte, error) {
	if data, ok := r.files[req.Filename]; ok {
		return []byte(data), nil
	}
	return nil, &fs.PathError{Op: "open", Path: req.Filename, Err: fs.ErrNotExist}
}

func (r tree) StatFile(_ context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	return &fstypes.Stat{Path: req.Path, Size: int64(len(r.files[req.Path]))}, nil
}

func (r tree) ReadDir(_ context.Context, req client.ReadDirRequest) (found []*fstypes.Stat, err error) {
	for name := range r.files {
		if path.Dir("/"+name) == path.Clean(req.Path) {
			found = append(found, &fstypes.Stat{Path: path.Base(name)})
		}
	}
	if found == nil {
		return nil, &fs.PathError{Op: "open", Path: req.Path, Err: fs.ErrNotExist}
	}
	return found, nil
}

const (
	debian  = `"docker.io/library/debian:12"`
	hex     = "5555555555555555555555555555555555555555555555555555555555555555"
	pin     = "sha256:" + hex
	version = "version = 1\n"
	epoch   = "epoch = 2001-09-09T01:46:40Z\n" // 1000000000
	images  = "[image]\n" + debian + ` = "` + pin + "\"\n"
)

// built builds with the daemon, and returns the config of the image.
func built(t *testing.T, d *daemon) ocispec.Image {
	t.Helper()
	res, err := Build(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	var config ocispec.Image
	if err := json.Unmarshal(res.Metadata["containerimage.config"], &config); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestPins(t *testing.T) {
	commit := strings.Repeat("a", 40)
	d := &daemon{files: map[string]string{
		"Dockerfile": "FROM debian:12\nCOPY --from=debian:12 /a /b\nADD https://example.com/x /x\nADD https://example.com/r.git#main /r\n" +
			"RUN --mount=from=debian:12,target=/m make\n",
		"Dockerfile.lock": version + epoch + images + "[url]\n\"https://example.com/x\" = \"" + pin + "\"\n" +
			"[git]\n\"https://example.com/r.git#main\" = \"" + commit + "\"\n",
	}}
	config := built(t, d)
	sources, steps := d.last(t)
	for id, want := range map[string][2]string{
		"docker-image://docker.io/library/debian:12@" + pin: {},
		"https://example.com/x":                             {pb.AttrHTTPChecksum, pin},
		"git://example.com/r.git#main":                      {pb.AttrGitChecksum, commit},
	} {
		if op := sources[id]; op == nil || op.Attrs[want[0]] != want[1] {
			t.Errorf("%s: %v among %v", id, op, slices.Collect(maps.Keys(sources)))
		}
	}
	for _, ref := range d.lookedUp {
		if !strings.HasSuffix(ref, "@"+pin) {
			t.Errorf("looked up %s", ref)
		}
	}
	for _, want := range []string{"SOURCE_DATE_EPOCH=1000000000", "PYTHONHASHSEED=0", "GIT_AUTHOR_DATE=@1000000000 +0000"} {
		if len(steps) != 1 || !slices.Contains(steps[0].Meta.Env, want) {
			t.Errorf("no %s in %v", want, steps)
		}
	}
	if got, want := config.Config.Labels, map[string]string{frontend.ArgsLabel: frontend.Hash(nil)}; !maps.Equal(got, want) {
		t.Errorf("labels %v, not %v", got, want)
	}
	if h := config.History[len(config.History)-1]; h.Created == nil || h.Created.Unix() != 1_000_000_000 {
		t.Errorf("history %v", h)
	}
	if len(d.warnings) > 0 {
		t.Errorf("warnings %q", d.warnings)
	}
}

// Every source without a pin is named with its line, and nothing is fetched or looked up.
func TestUnlocked(t *testing.T) {
	for name, test := range map[string]struct {
		dockerfile, lock string
		opts             map[string]string
		want             []string
	}{
		"no lockfile": {
			dockerfile: "FROM debian:12\n",
			want:       []string{`Dockerfile:1: image "docker.io/library/debian:12" is not locked`, "there is no Dockerfile.lock beside it"},
		},
		"all kinds": {
			dockerfile: "ARG V=13\nFROM debian:12 AS x\nFROM debian:$V\nCOPY --from=x /a /\nADD https://example.com/x /x\nADD https://example.com/r.git#main /r\nRUN --mount=from=alpine,target=/m x\n",
			lock:       version + images,
			want: []string{
				`Dockerfile:3: image "docker.io/library/debian:13" is not locked`, `Dockerfile:5: url "https://example.com/x" is not locked`,
				`Dockerfile:6: git "https://example.com/r.git#main" is not locked`, `Dockerfile:7: image "docker.io/library/alpine:latest" is not locked`,
				"kedge lock adds what is missing",
			},
		},
		"another build arg": {
			dockerfile: "ARG V=12\nFROM debian:$V\n", lock: version + images, opts: map[string]string{"build-arg:V": "11"},
			want: []string{`Dockerfile:2: image "docker.io/library/debian:11" is not locked`},
		},
		"a checksum that contradicts the lock": {
			dockerfile: "FROM scratch\nADD --checksum=sha256:" + strings.Repeat("6", 64) + " https://example.com/x /x\n",
			lock:       version + "[url]\n\"https://example.com/x\" = \"" + pin + "\"\n",
			want:       []string{`Dockerfile:2: url "https://example.com/x" is locked to ` + pin + ", not sha256:666"},
		},
		"a named context": {
			dockerfile: "FROM base\n", lock: version, opts: map[string]string{"context:base": "docker-image://alpine"},
			want: []string{`image "docker.io/library/alpine:latest" is not locked`},
		},
		"an image of one machine": {
			dockerfile: "FROM debian:12\n", lock: version + "[local]\n" + debian + ` = "` + pin + "\"\n",
			want: []string{`Dockerfile:1: image "docker.io/library/debian:12" is locked to an image of one machine`},
		},
		"a frontend": {
			dockerfile: "# syntax=example.com/kedge\nFROM scratch\n", lock: version, opts: map[string]string{"source": "example.com/kedge"},
			want: []string{`Dockerfile:1: image "example.com/kedge:latest" is not locked`},
		},
		"two platforms": {
			dockerfile: "FROM debian:12-$TARGETARCH\n", lock: version, opts: map[string]string{"platform": "linux/amd64,linux/arm64"},
			want: []string{`Dockerfile:1: image "docker.io/library/debian:12-amd64" is not locked`, `Dockerfile:1: image "docker.io/library/debian:12-arm64" is not locked`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{files: map[string]string{"Dockerfile": test.dockerfile, "Dockerfile.lock": test.lock}, opts: test.opts}
			if test.lock == "" {
				delete(d.files, "Dockerfile.lock")
			}
			_, err := Build(t.Context(), d)
			if err == nil {
				t.Fatal("built")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
			if strings.HasPrefix(test.want[0], "Dockerfile:") && len(errdefs.Sources(err)) == 0 {
				t.Errorf("no excerpt with %v", err)
			}
			for _, ref := range d.lookedUp {
				if !strings.Contains(ref, "@") {
					t.Errorf("looked up %s", ref)
				}
			}
		})
	}
}

func TestTargets(t *testing.T) {
	const stages = "FROM scratch AS base\nFROM scratch AS app\n"
	for name, test := range map[string]struct {
		lock, target string
		locks        map[string]string
		label        string
		want         string // of an error
	}{
		"declared":             {lock: `target = "app"` + "\n"},
		"declared and asked":   {lock: `target = "app"` + "\n", target: "app"},
		"another":              {lock: `target = "app"` + "\n", target: "base", label: "base"},
		"another, strict":      {lock: `target = "app"` + "\n" + "strict-target = true\n", target: "base", want: `Dockerfile.lock: declares target "app", not "base": kedge lock --target base`},
		"a stage was added":    {lock: `target = "base"` + "\n", want: `declares target "base", and the last stage is "app": kedge lock --target app`},
		"no such":              {lock: `target = "app"` + "\n", target: "gone", want: "could not be found"},
		"a lock of its own":    {lock: `target = "app"` + "\n", target: "base", locks: map[string]string{"Dockerfile.base.lock": version + `target = "base"` + "\n"}},
		"a damaged lock":       {lock: "x = 1\n", want: "Dockerfile.lock:2: unknown key"},
		"a folder as a target": {lock: "", target: "../x", want: "could not be found"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{files: map[string]string{"Dockerfile": stages, "Dockerfile.lock": version + test.lock}, opts: map[string]string{"target": test.target}}
			maps.Copy(d.files, test.locks)
			res, err := Build(t.Context(), d)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, not %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var config ocispec.Image
			if err := json.Unmarshal(res.Metadata["containerimage.config"], &config); err != nil {
				t.Fatal(err)
			}
			if got := config.Config.Labels[frontend.TargetLabel]; got != test.label {
				t.Errorf("label %q, not %q", got, test.label)
			}
		})
	}
}

func TestEpoch(t *testing.T) {
	for name, test := range map[string]struct {
		dockerfile string
		opts       map[string]string
		exporter   string
		step       string
	}{
		"the lock's":                 {"FROM debian:12\nRUN x\n", nil, "1000000000", "1000000000"},
		"a build arg":                {"FROM debian:12\nRUN x\n", map[string]string{"build-arg:SOURCE_DATE_EPOCH": "7"}, "7", "7"},
		"the Dockerfile's":           {"ARG SOURCE_DATE_EPOCH=8\nFROM debian:12\nRUN x\n", nil, "8", "8"},
		"a stage's":                  {"FROM debian:12\nARG SOURCE_DATE_EPOCH=9\nRUN x\n", nil, "1000000000", "9"},
		"of a context that has none": {"FROM debian:12\nRUN x\n", map[string]string{"build-arg:SOURCE_DATE_EPOCH": "context"}, "1000000000", "1000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{files: map[string]string{"Dockerfile": test.dockerfile, "Dockerfile.lock": version + epoch + images}, opts: test.opts}
			res, err := Build(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(res.Metadata["source.date.epoch"]); got != test.exporter {
				t.Errorf("the exporter has %q, not %q", got, test.exporter)
			}
			if _, steps := d.last(t); !slices.Contains(steps[0].Meta.Env, "SOURCE_DATE_EPOCH="+test.step) {
				t.Errorf("the step has %q", steps[0].Meta.Env)
			}
		})
	}
}

// The lockfile is found wherever the Dockerfile is.
func TestPlaces(t *testing.T) {
	lockfile := version + images
	for name, test := range map[string]struct {
		files map[string]string
		opts  map[string]string
	}{
		"another name":              {map[string]string{"app.Dockerfile": "FROM debian:12\n", "app.Dockerfile.lock": lockfile}, map[string]string{"filename": "app.Dockerfile"}},
		"in a folder":               {map[string]string{"d/Dockerfile": "FROM debian:12\n", "d/Dockerfile.lock": lockfile}, map[string]string{"filename": "d/Dockerfile"}},
		"in small letters":          {map[string]string{"dockerfile": "FROM debian:12\n", "dockerfile.lock": lockfile}, nil},
		"a git context":             {map[string]string{"Dockerfile": "FROM debian:12\nCOPY . /\n", "Dockerfile.lock": lockfile}, map[string]string{"context": "https://example.com/r.git#main"}},
		"left out by .dockerignore": {map[string]string{"Dockerfile": "FROM debian:12\n", "Dockerfile.lock": lockfile, ".dockerignore": "*.lock\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := &daemon{files: test.files, opts: test.opts}
			built(t, d)
			if sources, _ := d.last(t); sources["docker-image://docker.io/library/debian:12@"+pin] == nil {
				t.Errorf("sources %v", sources)
			}
		})
	}
}

// What another target of bake made is taken as it is.
func TestInputs(t *testing.T) {
	other := llb.Image("docker.io/library/unlocked:1").Run(llb.Shlex("make")).Root()
	def, err := other.Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	op, err := llb.NewDefinitionOp(def.ToPB())
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{
		files:  map[string]string{"Dockerfile": "FROM debian:12\nCOPY --from=other /a /b\n", "Dockerfile.lock": version + epoch + images},
		opts:   map[string]string{"context:other": "input:other"},
		inputs: map[string]llb.State{"other": llb.NewState(op)},
	}
	built(t, d)
	sources, steps := d.last(t)
	if sources["docker-image://docker.io/library/unlocked:1"] == nil || len(steps) != 1 || slices.Contains(steps[0].Meta.Env, "PYTHONHASHSEED=0") {
		t.Errorf("%v, %v", sources, steps)
	}
}

// Questions about a Dockerfile need no lock, and are answered by its pins.
func TestQuestions(t *testing.T) {
	for _, request := range []string{"frontend.lint", "frontend.outline", "frontend.targets"} {
		d := &daemon{
			files: map[string]string{"Dockerfile": "FROM debian:12 AS a\nFROM debian:13\nCOPY --from=a / /\n", "Dockerfile.lock": version + images},
			opts:  map[string]string{"requestid": request},
		}
		res, err := Build(t.Context(), d)
		if err != nil || len(res.Metadata["result.json"]) == 0 {
			t.Errorf("%s: %v", request, err)
		}
		if slices.Contains(d.lookedUp, "docker.io/library/debian:12") {
			t.Errorf("%s looked up %q", request, d.lookedUp)
		}
	}
}

// The lock has another image than the one that runs.
func TestSelf(t *testing.T) {
	const ref = "docker.io/example/kedge:1"
	files := map[string]string{
		"Dockerfile":      "# syntax=example/kedge:1\nFROM scratch\n",
		"Dockerfile.lock": version + "[image]\n\"" + ref + "\" = \"" + pin + "\"\n",
	}
	opts := map[string]string{"source": "example/kedge:1"}
	_, err := Build(t.Context(), &daemon{files: files, opts: opts})
	if want := "append @" + pin + " to the syntax line"; err == nil || !strings.Contains(err.Error(), want) || len(errdefs.Sources(err)) == 0 {
		t.Errorf("%v, not %s", err, want)
	}
	built(t, &daemon{files: files, opts: opts, moved: map[string]digest.Digest{ref: pin}})
	// Named on the command line, it is no source of the Dockerfile.
	built(t, &daemon{files: map[string]string{"Dockerfile": "FROM scratch\n"}, opts: opts})
}

// kedge itself holds a build to its lock, which is not in the context.
func TestKedgeAsClient(t *testing.T) {
	d := &daemon{
		files: map[string]string{"Dockerfile": "# syntax=example/kedge:1\nFROM debian:12\n"},
		opts:  map[string]string{"source": "example/kedge:1", "cmdline": "example/kedge:1", frontend.ClientLocks: "true"},
	}
	built(t, d)
	if !slices.Contains(d.lookedUp, "docker.io/library/debian:12") && !slices.Contains(d.lookedUp, "debian:12") {
		t.Errorf("looked up %q", d.lookedUp)
	}
}

func TestDownloadsWarn(t *testing.T) {
	d := &daemon{files: map[string]string{"Dockerfile": "FROM scratch\n", "Dockerfile.lock": version + `downloads = "` + pin + "\"\n"}}
	built(t, d)
	if len(d.warnings) != 1 || !strings.Contains(d.warnings[0], "only kedge build enforces") {
		t.Errorf("warnings %q", d.warnings)
	}
}

// A daemon that would ignore the checksum of a commit does not get it.
func TestOldDaemon(t *testing.T) {
	d := &daemon{files: map[string]string{
		"Dockerfile":      "FROM scratch\nADD https://example.com/r.git#main /r\n",
		"Dockerfile.lock": version + "[git]\n\"https://example.com/r.git#main\" = \"" + strings.Repeat("a", 40) + "\"\n",
	}}
	for _, c := range pb.Caps.All() {
		if c.ID != string(pb.CapSourceGitChecksum) {
			d.have = append(d.have, c)
		}
	}
	if _, err := Build(t.Context(), d); err == nil || !strings.Contains(err.Error(), "cannot fetch a commit") {
		t.Error(err)
	}
}
