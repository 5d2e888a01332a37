package drift

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/kedge-build/kedge/diff"
)

// BenchmarkRead compares the time of recording an image of 2 GB with 150,000 files, in six layers, with that of
// reading its layers once, in pairs.
func BenchmarkRead(b *testing.B) {
	img := large(b)
	config, err := img.ConfigFile()
	if err != nil {
		b.Fatal(err)
	}
	blobs, err := layers(img, config, &Record{})
	if err != nil {
		b.Fatal(err)
	}
	var once, recorded time.Duration
	for b.Loop() {
		start := time.Now()
		for _, blob := range blobs {
			if err := readOnce(b.Context(), blob); err != nil {
				b.Fatal(err)
			}
		}
		between := time.Now()
		r, _, err := Read(b.Context(), img)
		if err == nil {
			err = r.Save(filepath.Join(b.TempDir(), "Dockerfile.drift"))
		}
		if err != nil {
			b.Fatal(err)
		}
		once, recorded = once+between.Sub(start), recorded+time.Since(between)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(recorded.Seconds()/once.Seconds(), "recorded/once")
	b.ReportMetric(once.Seconds()/float64(b.N), "s-once")
	b.ReportMetric(float64(m.Sys)/1e6, "MB-peak")
}

func readOnce(ctx context.Context, blob diff.Blob) error {
	r, err := blob.Reader(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
}

// large writes the layers to files, so that reading them is what a store does.
func large(b *testing.B) v1.Image {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	const layers, files, bytes = 6, 25_000, 13_333
	words := make([]byte, 1<<20) // compresses about twofold, as programs and texts do
	for i := range words {
		words[i] = byte(random.IntN(16)) * 16
	}
	img := empty.Image
	for l := range layers {
		path := filepath.Join(b.TempDir(), fmt.Sprint(l))
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		w := tar.NewWriter(f)
		for i := range files {
			h := &tar.Header{Name: fmt.Sprintf("usr/lib/d%d/sub%03d/file%06d.so", l, i%200, i), Mode: 0o644, Size: bytes, Typeflag: tar.TypeReg}
			at := random.IntN(len(words) - bytes)
			if err := errors.Join(w.WriteHeader(h), write(w, words[at:at+bytes])); err != nil {
				b.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), f.Close()); err != nil {
			b.Fatal(err)
		}
		if out, gerr := exec.Command("gzip", "-1", path).CombinedOutput(); gerr != nil {
			b.Fatal(string(out), gerr)
		}
		layer, err := tarball.LayerFromFile(path + ".gz")
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	return img
}

func write(w io.Writer, p []byte) error {
	_, err := w.Write(p)
	return err
}
