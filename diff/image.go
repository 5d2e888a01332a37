package diff

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kedge-build/kedge/diff/packages"
	ocidigest "github.com/opencontainers/go-digest"
)

// Types returns what Images can compare, and Options.Types selects from: the kinds of packages first.
func Types() []string {
	return append(packages.Kinds(), "file", "config", "history", "size", "layer")
}

// Options say what Images compares.
type Options struct {
	// Types are some of [Types]; none stands for all of them. Layers are read only for packages,
	// files and layers.
	Types []string
	// TempDir is where packages are read from that do not fit into memory; empty is the system's.
	TempDir string
}

// Result is how two images differ. What was not asked for is empty.
type Result struct {
	// Same says that nothing in Options.Types differs. With no types, sizes and layers do not count,
	// because the same files can be cut into layers and compressed in many ways.
	Same   bool
	First  Side
	Second Side
	// Files differ in the file trees that the images result in, sorted by path.
	Files    []File
	Packages []Package
	Config   []Setting
	History  []Step
	Sizes    *Sizes
	// Layers differ, paired by position, lowest first. Layers with the same diffID are not listed.
	Layers []Layer
	// Shared are the diffIDs of the lowest layers, which both images have.
	Shared []string
	// Notes say what could not be compared as it should be.
	Notes []string
}

// Side is one of the two images.
type Side struct {
	Name     string // the caller's
	Digest   string // of the manifest
	Platform string
}

// File is a path that differs, and what it is in either image.
type File struct {
	Path
	First  *Stat
	Second *Stat
}

// Stat is what a path is in one image.
type Stat struct {
	Type string // file, directory, symlink, char, block, fifo, hardlink or whiteout
	Size int64  // in bytes
	Mode string // octal, as of chmod: "4755" is setuid, "777" is writable for all
	UID  int
	GID  int
	// Time is in RFC 3339.
	Time   string
	Target string // of a link
	Device string // MAJOR:MINOR
}

// Package is a package that differs. Versions of several installed at once are joined by ", ".
type Package struct {
	Kind   string
	Name   string
	Change Change
	First  string
	Second string
}

// Setting is a value of the image config that differs.
type Setting struct {
	Key    string // a path such as config.Env.PATH or config.Labels["org.example.a"]
	Change Change
	First  string // a string as it is, anything else as JSON
	Second string
}

// Step is an entry of the history that differs.
type Step struct {
	Index  int // from 0
	First  *StepState
	Second *StepState
}

// StepState is an entry of an image's history.
type StepState struct {
	Created    string // in RFC 3339
	CreatedBy  string
	Author     string
	Comment    string
	EmptyLayer bool
}

// Sizes are those of the layers' blobs, in bytes.
type Sizes struct {
	First  int64
	Second int64
	Layers []LayerSize // those that differ
}

// LayerSize is the size of the blobs of the layers at one position.
type LayerSize struct {
	Index  int
	First  int64
	Second int64
}

// Layer is a pair of layers that differ.
type Layer struct {
	Index  int    // from 0
	First  string // the diffID; empty if that image has no such layer
	Second string
	// Files differ between the two tars. A whiteout, which removes what lower layers hold, is a path
	// of that type.
	Files []File
}

// maxLayers is how many layers an image may have; overlayfs takes 500.
const maxLayers = 1000

// Images compares two images of one platform each. It checks digest and diffID of each layer that it reads
// as a whole, and only the digest if it reads a layer in parts.
//
// It skips the lowest layers if both images have the same, unless a higher layer of only one image changes
// a path: only the lower layers show whether that path is new. If they cannot be read, it counts as new,
// and a note says so.
//
// Memory grows with the number of paths, not with their content.
func Images(ctx context.Context, first, second v1.Image, o Options) (*Result, error) {
	want, err := o.wanted()
	if err != nil {
		return nil, err
	}
	a, err := open(first)
	if err != nil {
		return nil, fmt.Errorf("reading the first image: %w", err)
	}
	b, err := open(second)
	if err != nil {
		return nil, fmt.Errorf("reading the second image: %w", err)
	}
	r := &Result{
		First: a.side, Second: b.side,
		Files: []File{}, Packages: []Package{}, Config: []Setting{}, History: []Step{}, Layers: []Layer{}, Shared: []string{},
	}
	shared := 0
	for shared < min(len(a.layers), len(b.layers)) && a.layers[shared].diffID == b.layers[shared].diffID {
		r.Shared = append(r.Shared, a.layers[shared].diffID.String())
		shared++
	}
	if want["config"] {
		if r.Config, err = settings(a.config, b.config); err != nil {
			return nil, err
		}
	}
	if want["history"] {
		r.History = steps(a.history, b.history)
	}
	if want["size"] {
		r.Sizes = sizes(a.layers, b.layers)
	}
	if a.side.Digest != b.side.Digest && (want["file"] || want["layer"] || wantsPackages(want)) {
		c := comparison{a: a, b: b, shared: shared, want: want, tempDir: o.TempDir, result: r}
		if err := c.run(ctx); err != nil {
			return nil, err
		}
	}
	slices.Sort(r.Notes)
	r.Same = len(r.Files)+len(r.Packages)+len(r.Config)+len(r.History) == 0
	if len(o.Types) > 0 {
		r.Same = r.Same && len(r.Layers) == 0 && (r.Sizes == nil || r.Sizes.First == r.Sizes.Second && len(r.Sizes.Layers) == 0)
	}
	return r, nil
}

// wanted returns the types that are asked for.
func (o Options) wanted() (map[string]bool, error) {
	types := o.Types
	if len(types) == 0 {
		types = Types()
	}
	want := map[string]bool{}
	for _, t := range types {
		if !slices.Contains(Types(), t) {
			return nil, fmt.Errorf("no type %q to compare", t)
		}
		want[t] = true
	}
	return want, nil
}

func wantsPackages(want map[string]bool) bool {
	return slices.ContainsFunc(packages.Kinds(), func(kind string) bool { return want[kind] })
}

// opened is an image whose manifest and config have been read.
type opened struct {
	side    Side
	config  []byte
	history []v1.History
	layers  []imageLayer
}

// imageLayer is a layer of an image that has not been read.
type imageLayer struct {
	blob   Blob
	diffID v1.Hash
	size   int64
	parts  []part       // those that are read instead of the whole layer
	places map[name]int // of the paths in parts
}

func open(img v1.Image) (*opened, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers, more than %d", len(layers), maxLayers)
	}
	if len(layers) != len(file.RootFS.DiffIDs) {
		return nil, fmt.Errorf("its manifest has %d layers, its config %d", len(layers), len(file.RootFS.DiffIDs))
	}
	o := &opened{side: Side{Digest: digest.String()}, config: config, history: file.History}
	if p := file.Platform(); p != nil {
		o.side.Platform = p.String()
	}
	for i, l := range layers {
		size, err := l.Size()
		if err != nil {
			return nil, err
		}
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		diffID := file.RootFS.DiffIDs[i]
		blob := Blob{l.Compressed, ocidigest.Digest(digest.String()), ocidigest.Digest(diffID.String())}
		o.layers = append(o.layers, imageLayer{blob: blob, diffID: diffID, size: size})
	}
	return o, nil
}

func sizes(a, b []imageLayer) *Sizes {
	s := &Sizes{Layers: []LayerSize{}}
	for i := range max(len(a), len(b)) {
		l := LayerSize{Index: i}
		if i < len(a) {
			l.First = a[i].size
		}
		if i < len(b) {
			l.Second = b[i].size
		}
		s.First += l.First
		s.Second += l.Second
		if l.First != l.Second {
			s.Layers = append(s.Layers, l)
		}
	}
	return s
}
