package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/opencontainers/go-digest"
)

// Path returns the path of the record that belongs to a lockfile: that of Dockerfile.lock is
// Dockerfile.downloads.
func Path(lockfile string) string { return strings.TrimSuffix(lockfile, ".lock") + ".downloads" }

// A MismatchError says that a record is not the one that its lockfile names.
type MismatchError struct {
	Path   string
	Locked digest.Digest // empty: the lockfile names none
	Found  digest.Digest // empty: there is no record
}

func (e *MismatchError) Error() string {
	if e.Found == "" {
		return fmt.Sprintf("%s: is missing, and the lockfile names it", e.Path)
	}
	return fmt.Sprintf("%s: has the digest %s, and the lockfile names %s", e.Path, e.Found, e.Locked)
}

// Read reads the record at path, whose digest the lockfile says. If locked is empty, it returns nil. The error
// is a *MismatchError if the record has another digest, and Errors if it does not parse.
func Read(path string, locked digest.Digest) (*Record, error) {
	if locked == "" {
		return nil, nil
	}
	mismatch := &MismatchError{Path: path, Locked: locked}
	for _, name := range []string{path, staged(path, locked)} {
		data, err := wholefile.Read(name, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the record of downloads: %w", err)
		}
		r, err := Parse(name, data)
		if err != nil {
			if name == path {
				return nil, err
			}
			continue
		}
		// What counts is the content: comments and the order of lines have no meaning.
		if sum := r.Sum(); sum == locked {
			return r, nil
		} else if name == path {
			mismatch.Found = sum
		}
	}
	return nil, mismatch
}

// ReadAny reads the record at path, whatever the lockfile says. Without a file it returns nil.
func ReadAny(path string) (*Record, error) {
	data, err := wholefile.Read(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of downloads: %w", err)
	}
	return Parse(path, data)
}

// A record and its lockfile are two files, and a process may be killed between two renames. So a new record is
// staged under a name with its digest, then the lockfile is replaced, and Adopt gives the record its name.
// Until then Read finds it by the digest in the lockfile.

func staged(path string, sum digest.Digest) string {
	return filepath.Join(filepath.Dir(path), stagedPrefix(path)+sum.Encoded()[:min(16, len(sum.Encoded()))])
}

func stagedPrefix(path string) string { return "." + filepath.Base(path) + "." }

// Stage writes a record so that Adopt can give it its name, and returns its digest for the lockfile. The
// caller must be within [lock.Update] of the lockfile, whose digest of the record is locked.
func Stage(path string, locked digest.Digest, r *Record) (digest.Digest, error) {
	if locked != "" {
		if err := Adopt(path, locked); err != nil {
			return "", err
		}
	}
	unstage(path)
	sum := r.Sum()
	if sum == locked {
		if _, err := Read(path, sum); err == nil {
			return sum, nil
		}
	}
	if err := wholefile.WriteBytes(staged(path, sum), r.Format(), 0o644); err != nil {
		return "", fmt.Errorf("writing the record of downloads: %w", err)
	}
	return sum, nil
}

// Adopt gives a staged record its name, after the lockfile with its digest was written. It does nothing if
// that has been done.
func Adopt(path string, sum digest.Digest) error {
	to, err := wholefile.Follow(path)
	if err != nil {
		return err
	}
	if err := os.Rename(staged(path, sum), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing the record of downloads: %w", err)
	}
	return nil
}

// unstage removes records whose processes were killed before they wrote the lockfile.
func unstage(path string) {
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), stagedPrefix(path)); ok && len(rest) == 16 && strings.Trim(rest, "0123456789abcdef") == "" {
			_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
}
