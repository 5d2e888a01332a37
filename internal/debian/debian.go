// Package debian makes Debian base images from Debian's own packages, for tests
// and demonstrations on machines that no image registry reaches.
//
// An image is put together as Docker's official debian:bookworm-slim is
// (debuerreotype: minbase, upgraded, slimmed, with its apt and dpkg settings), so
// that what a Dockerfile does on top of it behaves the same.
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

// Bookworm is the release that images are of if nothing else is asked for.
const Bookworm = "bookworm"

// releases are the Debian releases that [Slim] makes images of, by the names that
// tags of Docker's images begin with.
var releases = map[string]string{
	"bullseye": "bullseye", "11": "bullseye",
	"bookworm": "bookworm", "12": "bookworm",
	"trixie": "trixie", "13": "trixie",
	"sid": "sid", "unstable": "sid",
}

// ReleaseOf returns the release that a tag of Docker's debian image names
// (bullseye-slim, 12.7, sid-20260101), and Bookworm for one that names none of
// those that [Slim] makes.
func ReleaseOf(tag string) string {
	word, _, _ := strings.Cut(tag, "-")
	word, _, _ = strings.Cut(word, ".")
	if release, ok := releases[word]; ok {
		return release
	}
	return Bookworm
}

// recipe counts the changes of what [Slim] writes; an image cached by an
// earlier recipe is not taken for one of this.
const recipe = 2

// ToolError reports that this machine lacks a program that Slim runs.
type ToolError struct {
	Tool    string // the program, such as "debootstrap"
	Package string // the Debian package that has it
}

func (e *ToolError) Error() string {
	return fmt.Sprintf("%s is not installed (apt-get install %s)", e.Tool, e.Package)
}

// CacheDir returns the folder that images are kept in: $KEDGE_TEST_CACHE, or
// kedge-test in the user's cache folder.
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

// Slim returns a single-layer image equivalent to debian:RELEASE-slim for this
// machine's platform, kept as an OCI layout below the folder cache. The release
// is one that [ReleaseOf] returns. The first call makes the image from the mirror
// that this machine's apt is set to, which takes about a minute, needs root, and
// is logged to log; other callers, in any process, wait for it. Later calls open
// the image that is there.
//
// The image's created is the newest Date of the archive's Release files: the
// moment of Debian whose state it holds. It is real, follows from the packages
// and not from when or where the image was made, and no file is newer.
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

// open returns the image of the layout at dir, or an fs.ErrNotExist.
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

// write makes the image in a folder beside dir and moves it there whole.
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

// lock waits for the lock that the file at path stands for.
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
