package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// downloads measures builds whose downloads are recorded and replayed, beside the same builds without, and
// verifications beside one build by buildctl.
func (b *bench) downloads(ctx context.Context, n int) ([]row, error) {
	var rows []row
	for _, c := range []struct {
		name, pkg              string
		record, replay, verify float64 // goals
	}{
		{"small", "nginx-light", 1.15, 0.95, 1.2},
		{"large", "build-essential", 1.15, 0.95, 0.8},
	} {
		more, err := b.downloaded(ctx, n, c.name, c.pkg, c.record, c.replay, c.verify)
		if err != nil {
			return nil, fmt.Errorf("downloads: %s: %w", c.name, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (b *bench) downloaded(ctx context.Context, n int, name, pkg string, record, replay, verify float64) ([]row, error) {
	const from = "FROM debian:bookworm-slim\n"
	var (
		plain, locked = filepath.Join(b.dir, name+"-plain"), filepath.Join(b.dir, name+"-locked")
		dockerfile    = from + "RUN apt-get update && apt-get install -y --no-install-recommends " + pkg + "\n"
		empty         = map[string][]byte{} // a lock and a record that know nothing of the step
		recorded      = row{what: name + ": recording build", unit: "s", goal: record}
		replayed      = row{what: name + ": replayed build", unit: "s", goal: replay}
		verified      = row{what: name + ": replayed verify", unit: "s", goal: verify}
	)
	if err := writeContext(locked, from+"RUN true\n", 0); err != nil {
		return nil, err
	}
	if _, _, err := b.runKedge(ctx, "lock", locked, "--downloads"); err != nil {
		return nil, err
	}
	for _, file := range []string{"Dockerfile.lock", "Dockerfile.downloads"} {
		content, err := os.ReadFile(filepath.Join(locked, file))
		if err != nil {
			return nil, err
		}
		empty[file] = content
	}
	for _, dir := range []string{plain, locked} {
		if err := writeContext(dir, dockerfile, 0); err != nil {
			return nil, err
		}
	}
	if _, _, err := b.runKedge(ctx, "lock", plain); err != nil {
		return nil, err
	}
	for range n {
		for file, content := range empty {
			if err := os.WriteFile(filepath.Join(locked, file), content, 0o644); err != nil {
				return nil, err
			}
		}
		for _, m := range []struct {
			what string
			into []*[]float64
			keep bool // what was downloaded
			run  func() (time.Duration, int64, error)
		}{
			{"buildctl build", []*[]float64{&verified.buildkit}, false, func() (time.Duration, int64, error) {
				took, err := b.runBuildctl(ctx, plain, "type=oci,dest="+filepath.Join(b.dir, name+".tar"))
				return took, 0, err
			}},
			{"build without a record", []*[]float64{&recorded.buildkit, &replayed.buildkit}, false, func() (time.Duration, int64, error) {
				return b.runKedge(ctx, "build", plain)
			}},
			{"recording build", []*[]float64{&recorded.kedge}, false, func() (time.Duration, int64, error) {
				return b.runKedge(ctx, "build", locked)
			}},
			{"replayed build", []*[]float64{&replayed.kedge}, true, func() (time.Duration, int64, error) {
				return b.runKedge(ctx, "build", locked, "--locked")
			}},
			{"replayed verify", []*[]float64{&verified.kedge}, true, func() (time.Duration, int64, error) {
				return b.runKedge(ctx, "verify", locked, "--locked")
			}},
		} {
			if err := b.coolBut(ctx, m.keep); err != nil {
				return nil, err
			}
			took, _, err := m.run()
			if err != nil {
				return nil, err
			}
			b.say("%s: %s: %.2f s", name, m.what, took.Seconds())
			for _, into := range m.into {
				*into = append(*into, took.Seconds())
			}
		}
	}
	return []row{recorded, replayed, verified}, nil
}

// coolBut cools like cool. If keep is set, it keeps what kedge downloaded.
func (b *bench) coolBut(ctx context.Context, keep bool) error {
	data, kept := filepath.Join(b.data, "kedge", "downloads"), filepath.Join(b.dir, "kept")
	if keep {
		if err := os.Rename(data, kept); err != nil {
			return err
		}
	}
	if err := b.cool(ctx); err != nil || !keep {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
		return err
	}
	return os.Rename(kept, data)
}

// relay measures 1 GiB, and 500 small files on a connection each, that a step of a replayed build gets through the
// relay.
func (b *bench) relay(ctx context.Context, n int) ([]row, error) {
	origin, err := serveZeros()
	if err != nil {
		return nil, err
	}
	defer origin.Close()
	large := row{what: "relay: 1 GiB", unit: "s", goal: 2.6} // 400 MB/s
	peak := row{what: "relay: 1 GiB: peak memory", unit: "MiB", goal: 200, worst: true}
	small := row{what: "relay: 500 small files", unit: "s", goal: 5}
	for range n {
		for _, c := range []struct {
			size  int
			times int
			into  *row
		}{{1 << 30, 1, &large}, {1000, 500, &small}} {
			seconds, bytes, err := b.relayed(ctx, fmt.Sprintf("http://%s/zeros/%d", origin.Addr(), c.size), c.times)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.into.what, err)
			}
			b.say("%s: %.2f s", c.into.what, seconds)
			c.into.kedge = append(c.into.kedge, seconds)
			peak.kedge = append(peak.kedge, float64(bytes)/(1<<20))
		}
	}
	return []row{large, small, peak}, nil
}

// relayed returns how long a replayed build takes that requests a URL a number of times, minus one that requests
// nothing. It also returns kedge's peak memory.
func (b *bench) relayed(ctx context.Context, url string, times int) (seconds float64, peak int64, err error) {
	dir := filepath.Join(b.dir, "relayed")
	build := func(times int) (time.Duration, int64, error) {
		// The image has bash, which needs no other program for a request.
		script := fmt.Sprintf("for i in $(seq %d); do exec 3<>/dev/tcp/127.107.101.100/3128; "+
			"printf 'GET %s HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3 >/dev/null; exec 3<&-; done", times, url)
		dockerfile := "FROM debian:bookworm-slim\nRUN [\"bash\", \"-c\", \"" + strings.ReplaceAll(script, `\`, `\\`) + "\"]\n"
		if err := writeContext(dir, dockerfile, 0); err != nil {
			return 0, 0, err
		}
		if _, _, err := b.runKedge(ctx, "lock", dir, "--downloads"); err != nil {
			return 0, 0, err
		}
		return b.runKedge(ctx, "build", dir, "--locked", "--no-cache")
	}
	none, _, err := build(0)
	if err != nil {
		return 0, 0, err
	}
	all, peak, err := build(times)
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	return (all - none).Seconds(), peak, err
}

// serveZeros starts a server that answers /zeros/N with N zero bytes.
func serveZeros() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // it serves one build
			var n int
			if _, err := fmt.Sscanf(r.URL.Path, "/zeros/%d", &n); err != nil {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(n))
			for chunk := make([]byte, 1<<20); n > 0; n -= len(chunk) {
				chunk = chunk[:min(n, len(chunk))]
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}))
	}()
	return l, nil
}
