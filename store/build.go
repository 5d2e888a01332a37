package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/opencontainers/go-digest"
)

// A Build is what this kedge knows of an image that it has built: a JSON file in builds, named by the digest. It
// stays when the image is pruned, unless nothing was verified.
type Build struct {
	Version int           `json:"version"` // buildVersion
	Digest  digest.Digest `json:"digest"`  // of the manifest, or of the index of several platforms
	// Manifests are the digests of the platforms' manifests, and of the index that also holds attestations. Each of
	// them finds the Build.
	Manifests  []digest.Digest `json:"manifests,omitempty"`
	Dockerfile string          `json:"dockerfile,omitempty"` // absolute; empty if it was no file of this machine
	Text       digest.Digest   `json:"text,omitempty"`       // of the Dockerfile; empty if only the builder could read it
	Lockfile   string          `json:"lockfile,omitempty"`   // absolute; empty if nothing holds the lock
	Target     string          `json:"target"`
	Declared   string          `json:"declared"` // the target that ships
	Args       string          `json:"args"`     // the hash of the build args
	// Pins are those of the sources that it was built from, by their kind and reference, and that of the downloads.
	Pins map[string]string `json:"pins,omitempty"`
	// Foreign says which base images are for another platform than the one they were used for.
	Foreign []string `json:"foreign,omitempty"`
	// Unlocked says which RUNs may have downloaded what no lock has.
	Unlocked []string `json:"unlocked,omitempty"`
	// Findings counts what lint found before the build, by rule.
	Findings map[string]int `json:"findings,omitempty"`
	// Verified is the verdict of the last verification; nil if there was none.
	Verified *Verified `json:"verified,omitempty"`
}

// MadeFrom reports whether the Dockerfile at path is the one that the image was built from.
func (b *Build) MadeFrom(path string) (bool, error) {
	text, err := wholefile.Read(path, maxDockerfile)
	if err != nil {
		return false, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	return digest.FromBytes(text) == b.Text, nil
}

// DownloadsPin is the key in Build.Pins of the record of what RUN steps download.
const DownloadsPin = "downloads"

// Verified is what a verification said of an image.
type Verified struct {
	Reproducible bool     `json:"reproducible"`
	Varied       []string `json:"varied,omitempty"`
	NotCovered   int      `json:"notCovered,omitempty"` // how many things it does not cover
}

const (
	buildsDir     = "builds"
	buildVersion  = 2
	maxBuild      = 1 << 20  // bytes of a file in builds
	maxDockerfile = 16 << 20 // bytes; the frontend has the same
)

func (s *Store) buildPath(dgst digest.Digest) (string, error) {
	if err := dgst.Validate(); err != nil {
		return "", err
	}
	return s.path(buildsDir, dgst.Algorithm().String()+"-"+dgst.Encoded()+".json"), nil
}

// SaveBuild remembers a build. Without a verdict it keeps the one that the image has, also as a platform of an index,
// and those of its platforms that were verified alone or in another index.
func (s *Store) SaveBuild(b Build) error {
	b.Version = buildVersion
	if old, err := s.Build(b.Digest); err == nil && b.Verified == nil {
		b.Verified = old.Verified // the record that a digest leads to is of it, or of an index that has it
	}
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path(buildsDir), 0o755); err != nil {
		return fmt.Errorf("remember the build: %w", err)
	}
	for _, dgst := range slices.Compact(append([]digest.Digest{b.Digest}, b.Manifests...)) {
		path, err := s.buildPath(dgst)
		if old, err := s.Build(dgst); err == nil && b.Verified == nil && old.Verified != nil {
			continue
		}
		if err == nil {
			err = wholefile.WriteBytes(path, data, 0o666) // another process that opens the store cleans tmp
		}
		if err != nil {
			return fmt.Errorf("remember the build: %w", err)
		}
	}
	return nil
}

// Build returns the last build of the image with a digest. The error wraps fs.ErrNotExist if this kedge has not
// built it.
func (s *Store) Build(dgst digest.Digest) (Build, error) {
	path, err := s.buildPath(dgst)
	if err != nil {
		return Build{}, err
	}
	b, err := readBuild(path)
	if err != nil || b.Digest == dgst {
		return b, err
	}
	// The image may have been verified later, without the index that led here.
	if path, err = s.buildPath(b.Digest); err != nil {
		return Build{}, err
	}
	return readBuild(path)
}

func readBuild(path string) (Build, error) {
	data, err := wholefile.Read(path, maxBuild)
	if err != nil {
		return Build{}, err
	}
	var b Build
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil || b.Version != buildVersion {
		return Build{}, fmt.Errorf("%q is no record of a build: %w", path, fs.ErrNotExist)
	}
	return b, nil
}

// LastBuild returns the newest build of a Dockerfile, whose path is absolute. The error wraps fs.ErrNotExist if
// there is none.
func (s *Store) LastBuild(dockerfile string) (Build, error) {
	files, err := os.ReadDir(s.path(buildsDir))
	if err != nil {
		return Build{}, err
	}
	type dated struct {
		path string
		time time.Time
	}
	var list []dated
	for _, f := range files {
		if fi, err := f.Info(); err == nil {
			list = append(list, dated{s.path(buildsDir, f.Name()), fi.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b dated) int { return cmp.Or(b.time.Compare(a.time), cmp.Compare(a.path, b.path)) })
	for _, d := range list {
		if b, err := readBuild(d.path); err == nil && b.Dockerfile == dockerfile {
			return b, nil
		}
	}
	return Build{}, fmt.Errorf("%q has not been built: %w", dockerfile, fs.ErrNotExist)
}

// pruneBuilds removes the records of builds whose images are gone and were not verified, or all of them.
func (s *Store) pruneBuilds(all bool, live map[digest.Digest]bool) error {
	files, err := filepath.Glob(s.path(buildsDir, "*.json"))
	for _, path := range files {
		if b, err := readBuild(path); err == nil && !all && (live[b.Digest] || b.Verified != nil) {
			continue
		}
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
