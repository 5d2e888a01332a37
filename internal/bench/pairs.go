package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A pair compares two commands. Each round runs prepare, the yardstick, prepare and kedge.
type pair struct {
	row
	prepare          func() error // may be nil
	yardstick, kedge func() (time.Duration, int64, error)
	peak             float64 // the goal for kedge's peak memory, in MiB; 0 for none
}

// compare measures a pair n times. A first round without measurement fills caches and stores.
func (b *bench) compare(n int, p pair) ([]row, error) {
	peak := row{what: p.what + ": peak memory", unit: "MiB", goal: p.peak, worst: true}
	for i := range n + 1 {
		for _, side := range []struct {
			name string
			run  func() (time.Duration, int64, error)
			into *[]float64
		}{{"yardstick", p.yardstick, &p.buildkit}, {"kedge", p.kedge, &p.row.kedge}} {
			if p.prepare != nil {
				if err := p.prepare(); err != nil {
					return nil, err
				}
			}
			took, bytes, err := side.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.what, err)
			}
			b.say("%s: %s: %.2f s", p.what, side.name, took.Seconds())
			if i == 0 {
				continue
			}
			*side.into = append(*side.into, took.Seconds())
			if side.name == "kedge" {
				peak.kedge = append(peak.kedge, float64(bytes)/(1<<20))
			}
		}
	}
	if p.peak == 0 {
		return []row{p.row}, nil
	}
	return []row{p.row, peak}, nil
}

// loop measures what a working day consists of, beside `docker buildx build` with its default output on the same
// buildkitd.
func (b *bench) loop(ctx context.Context, n int) ([]row, error) {
	buildx := filepath.Join(b.bin, "buildx")
	if _, err := os.Stat(buildx); err != nil {
		return []row{{what: "loop", note: "not measured: buildx is not here"}}, nil
	}
	if _, _, err := b.command(ctx, buildx, "create", "--name=bench", "--driver=remote", b.Addr); err != nil {
		return nil, err
	}
	pairIn := func(what, dir string, goal, peak float64, edited string) pair {
		p := pair{row: row{what: what, unit: "s", goal: goal}, peak: peak,
			yardstick: func() (time.Duration, int64, error) {
				return b.command(ctx, buildx, "build", "--builder=bench", "--progress=plain", dir)
			},
			kedge: func() (time.Duration, int64, error) { return b.runKedge(ctx, "build", dir) },
		}
		if edited != "" {
			p.prepare = func() error {
				time.Sleep(time.Second) // no one edits twice a second, and two files of one time can be one layer
				return appendLine(filepath.Join(dir, edited))
			}
		}
		return p
	}
	var (
		copied = "FROM debian:bookworm-slim\nCOPY files /srv/files\n"
		large  = filepath.Join(b.dir, "context")
		many   = filepath.Join(b.dir, "many")
		deep   = filepath.Join(b.dir, "deep")
		source = filepath.Join(b.dir, "source")
	)
	var layers, steps strings.Builder
	for i := range 100 {
		fmt.Fprintf(&layers, "COPY files/%03d /srv/%03d\n", i, i)
	}
	for i := range 7 {
		fmt.Fprintf(&steps, "COPY files/%03d /srv/%03d\n", i, i)
	}
	for _, c := range []struct {
		dir, dockerfile string
		files, size     int
	}{
		{large, copied, 30_000, 53 << 10},
		{many, copied, 100_000, 100},
		{deep, "FROM debian:bookworm-slim\n" + layers.String(), 100, 10 << 10},
		{source, "FROM debian:bookworm-slim\nRUN apt-get update && apt-get install -y --no-install-recommends build-essential\n" +
			steps.String() + "COPY files/main.c /srv/main.c\nRUN gcc -o /srv/main /srv/main.c\n", 7, 1 << 10},
	} {
		if err := writeFiles(c.dir, c.dockerfile, c.files, c.size, 0); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(source, "files", "main.c"), []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		return nil, err
	}
	var rows []row
	for _, p := range []pair{
		pairIn("30,000 files, 1.6 GB: nothing changed", large, 1.2, 0, ""),
		pairIn("30,000 files, 1.6 GB: one file edited", large, 0.7, 200, "files/017"),
		pairIn("ten layers on build-essential: one line edited", source, 1.1, 0, "files/main.c"),
		pairIn("100,000 files: nothing changed", many, 1.2, 200, ""),
		pairIn("100,000 files: one file edited", many, 1.2, 300, "files/017"),
		pairIn("100 layers: the middle one edited", deep, 1.2, 200, "files/050"),
	} {
		more, err := b.compare(n, p)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// writeFiles writes a context with files of random data, which follow from seed.
func writeFiles(dir, dockerfile string, files, size int, seed uint64) error {
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], uint64(files))
	binary.BigEndian.PutUint64(key[8:], seed)
	random := rand.NewChaCha8(key)
	content := make([]byte, size)
	for i := range files {
		_, _ = random.Read(content) // never fails
		if err := os.WriteFile(filepath.Join(dir, "files", fmt.Sprintf("%03d", i)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// appendLine changes a file.
func appendLine(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "// %d\n", time.Now().UnixNano()); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
