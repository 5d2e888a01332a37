// Package debian makes Debian base images from Debian's packages, for tests and
// demonstrations on machines without access to an image registry.
//
//	img, err := debian.Slim(ctx, cache, debian.Bookworm, os.Stderr)
//
// It makes an image as debuerreotype makes Docker's official debian:bookworm-slim
// (minbase, upgraded, slimmed, with the same apt and dpkg settings), so that
// Dockerfiles behave the same on both.
package debian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Bookworm is the default release.
const Bookworm = "bookworm"

// releases are the Debian releases that [Slim] supports, by the prefixes of the
// tags of Docker's images.
var releases = map[string]string{
	"bullseye": "bullseye", "11": "bullseye",
	"bookworm": "bookworm", "12": "bookworm",
	"trixie": "trixie", "13": "trixie",
	"sid": "sid", "unstable": "sid",
}

// ReleaseOf returns the release in a tag of Docker's debian image (bullseye-slim,
// 12.7, sid-20260101), or Bookworm if [Slim] does not support it.
func ReleaseOf(tag string) string {
	word, _, _ := strings.Cut(tag, "-")
	word, _, _ = strings.Cut(word, ".")
	if release, ok := releases[word]; ok {
		return release
	}
	return Bookworm
}

// recipe is the version of the images that [Slim] makes. A cached image of another
// recipe is not used.
const recipe = 2

// ToolError says that this machine lacks a program that Slim needs.
type ToolError struct {
	Tool    string // the program, such as "debootstrap"
	Package string // the Debian package that has it
}

func (e *ToolError) Error() string {
	return fmt.Sprintf("%s is not installed (apt-get install %s)", e.Tool, e.Package)
}

// CacheDir returns the folder of the images: $KEDGE_TEST_CACHE, or kedge-test in the
// user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("KEDGE_TEST_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a cache folder: %w", err)
	}
	return filepath.Join(dir, "kedge-test"), nil
}

// Slim returns a single-layer image for this machine's platform that is equivalent
// to debian:RELEASE-slim. release is a result of [ReleaseOf]. The image is kept as
// an OCI layout below the folder cache. The first call makes it from the mirror
// that this machine's apt uses. That takes about a minute and needs root. Other
// calls, also of other processes, wait for it. Later calls open the existing image.
//
// The image's creation time is the newest Date of the archive's Release files. It
// depends on the packages and not on the time and place of the build, and no file
// is newer.
//
// The error is a *[ToolError] if debootstrap is missing.
func Slim(ctx context.Context, cache, release string, log io.Writer) (v1.Image, error) {
	dir := filepath.Join(cache, fmt.Sprintf("debian-%s-slim-%s-r%d", release, runtime.GOARCH, recipe))
	img, err := open(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if img, err = open(dir); !errors.Is(err, fs.ErrNotExist) {
		return img, err
	}
	if err := write(ctx, dir, release, log); err != nil {
		return nil, fmt.Errorf("making a Debian %s image: %w", release, err)
	}
	return open(dir)
}

// open returns the image in the layout at dir, or fs.ErrNotExist.
func open(dir string) (v1.Image, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%q holds %d images instead of one: remove it", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// write makes the image in a temporary folder next to dir and renames that to dir.
func write(ctx context.Context, dir, release string, log io.Writer) (err error) {
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return &ToolError{Tool: "debootstrap", Package: "debootstrap"}
	}
	if os.Geteuid() != 0 {
		return errors.New("debootstrap needs root")
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "debian-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	root := filepath.Join(work, "root")
	created, err := bootstrap(ctx, root, release, log)
	if err != nil {
		return err
	}
	tarball := filepath.Join(work, "layer.tar")
	if err := archive(tarball, root, created); err != nil {
		return err
	}
	img, err := image(tarball, release, created)
	if err != nil {
		return err
	}
	path, err := layout.Write(filepath.Join(work, "layout"), empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendImage(img); err != nil {
		return err
	}
	return os.Rename(string(path), dir)
}

// lock waits for an exclusive lock on the file at path.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %q: %w", path, err)
	}
	return func() { f.Close() }, nil
}
