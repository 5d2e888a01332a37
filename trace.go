package kedge

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/store"
	"github.com/kedge-build/kedge/trace"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// traces looks in an image for the day of the builds and for the machine. It returns what it finds by platform.
func (p *plan) traces(ctx context.Context, img store.Image, first, second *builder.Result) (map[string][]trace.Finding, error) {
	s := trace.Search{
		Builds: []trace.Window{{From: second.Started, To: second.Finished}},
		Epoch:  first.Epoch, Base: second.NewestBase, Given: []string{string(p.text)}, Inputs: func(ctx context.Context, fn func(string, []byte)) error { return inputFiles(ctx, first.Sent, fn) },
	}
	if !first.LastRunStarted.IsZero() {
		s.Builds = append(s.Builds, trace.Window{From: first.Started, To: first.Finished})
	}
	if p.env.Builder.Local() {
		s.Machine = p.env.Machine
	}
	for _, arg := range first.Args {
		s.Given = append(s.Given, arg.Value)
	}
	if committed, err := p.commitTime(ctx); err == nil { // most contexts have no commit
		s.Commit = committed
	}
	found := map[string][]trace.Finding{}
	for _, m := range img.Manifests {
		var err error
		if s.Zone, err = zone(ctx, p.env.Store, m); err != nil {
			return nil, err
		}
		platform := platforms.Format(m.Platform)
		if found[platform], err = trace.Find(ctx, p.env.Store, m, steps(first)[platform], s); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// zone returns the time zone that the image's environment names, or UTC.
func zone(ctx context.Context, st *store.Store, m store.Manifest) (*time.Location, error) {
	info, err := st.Info(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	data, err := store.ReadBlob(ctx, st, ocispec.Descriptor{Digest: m.Config, Size: info.Size}, store.MaxStatement)
	if err != nil {
		return nil, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, err
	}
	for _, kv := range config.Config.Env {
		if name, ok := strings.CutPrefix(kv, "TZ="); ok {
			if z, err := time.LoadLocation(strings.TrimPrefix(name, ":")); err == nil {
				return z, nil
			}
		}
	}
	return time.UTC, nil
}

// Limits on what is read of a build context to see whether a date came from there.
const (
	maxInputFile = 4 << 20
	maxInputs    = 512 << 20
)

// inputFiles calls fn with each path that was sent, by folder, and with the content if it is a file.
func inputFiles(ctx context.Context, sent map[string][]string, fn func(path string, content []byte)) error {
	left := int64(maxInputs)
	for dir, paths := range sent {
		for _, path := range slices.Sorted(slices.Values(paths)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			var content []byte
			if left > 0 {
				content, _ = readStart(filepath.Join(dir, filepath.FromSlash(path))) // it may have gone away
			}
			left -= int64(len(content))
			fn(path, content)
		}
	}
	return nil
}

// readStart returns the start of a regular file.
func readStart(path string) ([]byte, error) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxInputFile))
}
