// Package drift keeps what an image is as text in git, compares images with that, and judges how far one
// has drifted.
//
//	record, notes, err := drift.Read(ctx, image)
//	...
//	committed, err := drift.Load("Dockerfile.drift")
//	...
//	verdict := drift.Judge(drift.Compare(committed, record), settings, time.Now())
//
// A record is a folder beside the lockfile. docs/drift.md describes it. Equal images have equal records: a
// record has no time, and nothing that depends on how layers are compressed, but for the digest and the size
// of the download.
package drift

import (
	"archive/tar"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/diff"
)

// formatVersion is the only version of the format that this package reads and writes.
const formatVersion = 1

// Path returns the path of the record of a Dockerfile.
func Path(dockerfile string) string { return dockerfile + ".drift" }

// PlatformPath returns the path of the record of one platform in the folder of an image that has several. It is below
// dir whatever an image calls its platform.
func PlatformPath(dir, platform string) string {
	name := strings.TrimLeft(strings.ReplaceAll(platform, "/", "-"), ".")
	return filepath.Join(dir, cmp.Or(name, "unknown"))
}

// Platforms returns the paths of the records of platforms in dir, sorted: none if it is one record, or none.
func Platforms(dir string) []string {
	entries, _ := os.ReadDir(dir) // sorted
	var records []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(path, imageFile)); err == nil {
			records = append(records, path)
		}
	}
	return records
}

// Arrange makes room in dir for a record of each of the platforms, or for the only one if there are none: it removes
// the records that no platform has any more. The error is as that of Save.
func Arrange(dir string, platforms ...string) error {
	var keep []string
	for _, p := range platforms {
		keep = append(keep, PlatformPath(dir, p))
	}
	records := Platforms(dir)
	if _, err := os.Stat(filepath.Join(dir, imageFile)); err != nil {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(entries) > len(records) {
			return &ForeignError{dir}
		}
	} else if len(keep) > 0 {
		if err := replaceable(dir); err != nil {
			return err
		}
		for _, name := range []string{filesDir, packagesFile, imageFile} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for _, old := range records {
		if slices.Contains(keep, old) {
			continue
		}
		if err := replaceable(old); err != nil {
			return err
		}
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	return nil
}

// A Record is what an image of one platform is.
type Record struct {
	// Reason says why the image was accepted. It is empty if none was given.
	Reason   string
	Digest   string // of the manifest
	Platform string
	Base     string            // the distribution, such as "debian 12"; empty if the image does not say
	Download int64             // the size of the layers' blobs, in bytes
	Layers   []Layer           // lowest first
	Config   map[string]string // as diff.Settings returns it, without the time of creation
	Sources  []string          // where package managers of the image fetch packages, sorted, each once
	Packages []string          // purls, sorted; one occurs as often as it is installed
	Files    []File            // sorted by path, folder by folder
	// Findings counts what lint found before the image was built, by rule. It is no part of what the image is.
	Findings map[string]int
}

// A Layer is a layer of an image.
type Layer struct {
	DiffID string
	Size   int64  // of the files that it has, in bytes
	By     string // the instruction that made it, as the image's history has it
}

// A File is a path of an image. Its time is not recorded.
type File struct {
	Path     string // absolute
	Type     string // as diff.Stat has it: file, directory, symlink, char, block, fifo
	Mode     int64  // the permissions, with setuid, setgid and the sticky bit
	UID, GID int
	Size     int64  // of a file, in bytes
	Digest   string // of the content of a file
	Target   string // of a symlink
	Device   string // MAJOR:MINOR
	Xattrs   string // NAME=BASE64,..., sorted; empty for none
	// linked says that it is a further name of a file that has been counted.
	linked bool
}

// Size returns the size of all files, in bytes. A file with several names counts once.
func (r *Record) Size() int64 {
	var n int64
	for i := range r.Files {
		n += r.Files[i].bytes()
	}
	return n
}

// bytes is what the file adds to the size of its image.
func (f *File) bytes() int64 {
	if f.linked {
		return 0
	}
	return f.Size
}

// capability is the extended attribute that gives a program privileges, as setuid does.
const capability = "security.capability="

// privileged reports whether the file gives whoever runs it the rights of another user or group, or
// capabilities.
func (f *File) privileged() bool {
	return f.Type == "file" && (f.Mode&0o6000 != 0 || strings.Contains(f.Xattrs, capability))
}

// writable reports whether every user may write to the path.
func (f *File) writable() bool { return f.Type != "symlink" && f.Mode&0o002 != 0 }

// stat returns the path as a comparison has it.
func (f *File) stat() *diff.Stat {
	return &diff.Stat{Type: f.Type, Size: f.Size, Mode: octal(f.Mode), UID: f.UID, GID: f.GID, Target: f.Target, Device: f.Device}
}

// types are the types of a record's paths.
var types = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "directory", tar.TypeSymlink: "symlink", tar.TypeChar: "char",
	tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

// comparePaths orders paths folder by folder: /a/b is before /a.b.
func comparePaths(a, b string) int {
	for {
		x, restA, moreA := strings.Cut(a, "/")
		y, restB, moreB := strings.Cut(b, "/")
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return cmp.Compare(len(restA), len(restB))
		}
		a, b = restA, restB
	}
}

// folders returns the size of the files below each folder of the first and the second level.
func (r *Record) folders() map[string]int64 {
	sizes := map[string]int64{}
	for i := range r.Files {
		f := &r.Files[i]
		if n := f.bytes(); n > 0 {
			sizes[folderOf(f.Path)] += n
		}
	}
	return sizes
}

// folderOf returns the folder of the first or the second level that a path is in, "/" for one in the root.
func folderOf(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return "/" + strings.Join(parts[1:max(1, min(len(parts)-1, 3))], "/")
}

// unique sorts a list and drops what occurs twice.
func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
