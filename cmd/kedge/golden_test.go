package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kedge-build/kedge/internal/testenv"
)

var updateGolden = flag.Bool("update-golden", false, "write the golden images that TestGolden compares with")

// goldens are the contexts below testdata/golden and what they are built with.
var goldens = []struct {
	name  string
	flags []string
	git   bool // the context is the work tree of a repository with one commit
}{
	{name: "files"},
	{name: "config", flags: []string{"--label=c=3", "--build-arg=VERSION=1.2", "--annotation=org.example.note=a note", "--provenance=mode=max"}},
	{name: "rules"},
	{name: "rewrites"},
	{name: "kept", flags: []string{"--normalize=-histories"}},
	{name: "whiteouts"},
	{name: "links"},
	{name: "platforms", flags: []string{"--platform=linux/amd64,linux/arm64", "--annotation=index:org.example.note=both"}},
	{name: "stages"},
	{name: "archives"},
	{name: "base"},
	{name: "future"},
	{name: "early", flags: []string{"--source-date-epoch=0"}},
	{name: "git", git: true},
	{name: "big"},
	{name: "target", flags: []string{"--target=chosen", "--build-arg=NAME=given", "--build-arg=OTHER="}},
	{name: "python"},
}

// TestGolden builds contexts that reach every part of what an image is written
// by, and compares the images with recorded ones: no change may move a digest
// unseen. The contexts use version 1 of the rules, which never changes; nothing
// of the images comes from this machine, its Go or the day. An image that a
// change is meant to move is recorded again with -update-golden.
func TestGolden(t *testing.T) {
	registry, buildkitd := testenv.Shared(t)
	registry.Push(t, "golden/tool:latest", goldenTool(t))
	created := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	registry.Push(t, "golden/base:latest", goldenBase(t, created))
	registry.Push(t, "golden/future:latest", goldenBase(t, created.AddDate(200, 0, 0)))
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			dir := goldenContext(t, filepath.Join("testdata", "golden", g.name), g.git)
			out := filepath.Join(t.TempDir(), "layout")
			args := []string{"build", "--builder", buildkitd.Addr, "--output=type=oci,tar=false,dest=" + out}
			if !slices.ContainsFunc(g.flags, func(f string) bool { return strings.HasPrefix(f, "--platform") }) {
				args = append(args, "--platform=linux/amd64")
			}
			runKedge(t, nil, 0, append(append(args, g.flags...), dir)...)
			got := describeLayout(t, out)
			file := filepath.Join("testdata", "golden", g.name+".txt")
			if *updateGolden {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("the image is not the recorded one (-%s +built):\n%s", file, diff)
			}
		})
	}
}

// goldenTool returns an image with the shell of the RUN steps, for the builder's
// own platform.
func goldenTool(t *testing.T) v1.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tool")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./testdata/golden/tool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the shell of the golden contexts: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	// Older than golden/base, so that it decides no epoch but that of "future".
	created := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return testenv.Derive(t, testenv.Scratch(t, runtime.GOARCH), created, map[string]string{"tool": string(content)})
}

// goldenBase returns a base image for two platforms. Its layer is not
// compressed, because what compresses it would be in its digest.
func goldenBase(t *testing.T, created time.Time) v1.ImageIndex {
	t.Helper()
	var images []v1.Image
	for _, arch := range []string{"amd64", "arm64"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, f := range []struct{ name, content string }{
			{"etc/", ""},
			{"etc/machine-id", ""},
			{"etc/shadow", "root:*:10000:0:99999:7:::\n"},
			{"srv/", ""},
			{"srv/file", arch + "\n"},
			{"srv/folder/", ""},
			{"srv/folder/inner", "inner\n"},
			{"srv/other/", ""},
			{"srv/other/gone", "gone\n"},
			{"var/", ""},
			{"var/log/", ""},
			{"var/log/dpkg.log", "installed\n"},
			{"var/log/wtmp", ""},
		} {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: created, Format: tar.FormatUSTAR}
			if strings.HasSuffix(f.name, "/") {
				h.Typeflag, h.Mode = tar.TypeDir, 0o755
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, f.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		img, err := mutate.Append(testenv.Scratch(t, arch), mutate.Addendum{
			Layer:   static.NewLayer(b.Bytes(), types.OCIUncompressedLayer),
			History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY . /"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.CreatedAt(img, v1.Time{Time: created}); err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	return testenv.Index(t, images...)
}

// goldenContext copies a context with the modes and times that a checkout does
// not bring: all times are later than every epoch, but for those of files whose
// name begins with "old".
func goldenContext(t *testing.T, from string, git bool) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if git {
		goldenCommit(t, dir)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == ".git" {
			return fs.SkipDir
		}
		mode, when := fs.FileMode(0o644), time.Date(2035, 1, 2, 3, 4, 5, 6, time.UTC)
		if e.IsDir() || strings.HasSuffix(path, ".sh") {
			mode = 0o755
		}
		if strings.HasPrefix(e.Name(), "old") {
			when = time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
		}
		return errors.Join(os.Chmod(path, mode), os.Chtimes(path, when, when))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func goldenCommit(t *testing.T, dir string) {
	t.Helper()
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "--all"},
		{"update-index", "--chmod=+x", "run.sh"},
		{"commit", "--quiet", "--message=one"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
			"GIT_AUTHOR_NAME=golden", "GIT_AUTHOR_EMAIL=golden@example.com", "GIT_AUTHOR_DATE=2022-03-04T05:06:07Z",
			"GIT_COMMITTER_NAME=golden", "GIT_COMMITTER_EMAIL=golden@example.com", "GIT_COMMITTER_DATE=2022-03-04T05:06:07Z",
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// describeLayout returns a text about the images in an OCI layout, attestations
// left out: their digests, their configurations and the entries of their layers.
func describeLayout(t *testing.T, dir string) string {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	describeIndex(t, &b, index)
	return b.String()
}

func describeIndex(t *testing.T, b *strings.Builder, index v1.ImageIndex) {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		switch {
		case d.Platform != nil && d.Platform.OS == "unknown": // an attestation says when it was made
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			describeInner(t, b, d, inner)
		default:
			img, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			describeImage(t, b, img)
		}
	}
}

// describeInner names an index unless it has attestations, with which no two are
// the same.
func describeInner(t *testing.T, b *strings.Builder, d v1.Descriptor, index v1.ImageIndex) {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	attested := slices.ContainsFunc(manifest.Manifests, func(d v1.Descriptor) bool { return d.Platform != nil && d.Platform.OS == "unknown" })
	if attested {
		fmt.Fprintf(b, "index with attestations\n")
	} else {
		raw, err := index.RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "index %s\n%s\n", d.Digest, indentedJSON(t, raw))
	}
	describeIndex(t, b, index)
}

func describeImage(t *testing.T, b *strings.Builder, img v1.Image) {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(b, "\nmanifest %s\n%s\n\nconfig\n%s\n", digest, indentedJSON(t, manifest), indentedJSON(t, config))
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, layer := range layers {
		fmt.Fprintf(b, "\nlayer %d\n", i+1)
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		describeEntries(t, b, r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func describeEntries(t *testing.T, b *strings.Builder, r io.Reader) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, tr); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "%c %04o %d:%d %s %q", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Format(time.RFC3339), h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			fmt.Fprintf(b, " %d %.6x", h.Size, sum.Sum(nil))
		case tar.TypeLink, tar.TypeSymlink:
			fmt.Fprintf(b, " -> %q", h.Linkname)
		case tar.TypeChar, tar.TypeBlock:
			fmt.Fprintf(b, " %d,%d", h.Devmajor, h.Devminor)
		}
		for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				fmt.Fprintf(b, " %s=%q", name, h.PAXRecords[key])
			}
		}
		fmt.Fprintln(b)
	}
}

func indentedJSON(t *testing.T, document []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, document, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
