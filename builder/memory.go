package builder

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// memory is a folder whose files are in memory, by name.
type memory map[string][]byte

// Walk implements fsutil.FS.
func (m memory) Walk(_ context.Context, target string, fn fs.WalkDirFunc) error {
	target = path.Clean("/" + target)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if target != "/" && target != "/"+name {
			continue
		}
		entry := &fsutil.DirEntryInfo{Stat: &fstypes.Stat{Path: name, Mode: 0o644, Size: int64(len(m[name]))}}
		if err := fn(name, entry, nil); err != nil {
			return err
		}
	}
	return nil
}

// Open implements fsutil.FS.
func (m memory) Open(name string) (io.ReadCloser, error) {
	data, ok := m[path.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}
