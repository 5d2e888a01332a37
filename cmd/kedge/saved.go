package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/opencontainers/go-digest"
)

// An engineImages keeps images of Docker Engines as OCI layouts, each in a folder called like its ID. Who uses a
// folder holds a shared lock of it.
type engineImages struct {
	dir  string
	used []*flock.Flock
}

// keptImages is how many images stay for later builds.
const keptImages = 4

// digestFile is written last: it names the image of a layout that is complete.
const digestFile = "digest"

// find returns the layout of the image with an ID, or nil if it is not there.
func (s *engineImages) find(id string) *builder.Layout {
	dir := s.folder(id)
	lock, err := s.use(dir)
	if err != nil {
		return nil
	}
	sum, err := os.ReadFile(filepath.Join(dir, digestFile))
	if err != nil || digest.Digest(sum).Validate() != nil {
		_ = lock.Unlock()
		return nil
	}
	s.used = append(s.used, lock)
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // when it was used last
	return &builder.Layout{Dir: dir, Digest: digest.Digest(sum)}
}

func (s *engineImages) folder(id string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(id, ":", "-"))
}

func (s *engineImages) use(dir string) (*flock.Flock, error) {
	lock := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	return lock, lock.RLock()
}

// add saves the image called name, and keeps it as the one with an ID if current, called afterwards, says that
// the name still has that ID.
func (s *engineImages) add(ctx context.Context, id, name string, o source.Options, current func() string) (*builder.Layout, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.dir, "new-*")
	if err != nil {
		return nil, err
	}
	lock, err := s.use(dir)
	if err != nil {
		return nil, err
	}
	s.used = append(s.used, lock)
	spool, err := os.MkdirTemp("", "kedge-engine-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(spool)
	o.TempDir = spool
	img, err := source.Open(ctx, "docker-daemon:"+name, o)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		return nil, fmt.Errorf("saving image %q of Docker: %w", name, err)
	}
	hash, err := img.Digest()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, digestFile), []byte(hash.String()), 0o600); err != nil {
		return nil, err
	}
	// If another command has the image meanwhile, this folder serves this one, and goes with the next.
	if current() == id && os.Rename(dir, s.folder(id)) == nil {
		dir = s.folder(id)
	}
	return &builder.Layout{Dir: dir, Digest: digest.Digest(hash.String())}, nil
}

// close ends the use of all images, and removes those that are not among the last that were used.
func (s *engineImages) close() error {
	var err error
	for _, lock := range s.used {
		err = errors.Join(err, lock.Unlock())
	}
	if s.used == nil {
		return err
	}
	return errors.Join(err, s.prune(keptImages))
}

// prune removes the images that no command uses, except for those that were used last.
func (s *engineImages) prune(keep int) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	age := func(e fs.DirEntry) int64 {
		info, err := e.Info()
		if err != nil || strings.HasPrefix(e.Name(), "new-") {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(age(b), age(a)) })
	for i, e := range entries {
		if i < keep && age(e) > 0 {
			continue
		}
		lock := flock.New(filepath.Join(s.dir, e.Name()), flock.SetFlag(os.O_RDONLY))
		if unused, _ := lock.TryLock(); unused {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())), lock.Unlock())
		}
	}
	return err
}
