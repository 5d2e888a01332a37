package builder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/moby/buildkit/util/urlutil"
)

// Context is a build context, the main one or a named one. At most one field is set; the zero value is
// a context without files.
type Context struct {
	Dir     string   // a directory of this machine
	URL     string   // what the builder fetches: a git repository, or an archive or a file over http
	Archive *Archive // what this machine sends, for the builder to unpack
}

// String returns the name of a context for a person.
func (c Context) String() string {
	if c.Archive != nil {
		return "standard input"
	}
	return cmp.Or(c.Dir, urlutil.RedactCredentials(c.URL))
}

// Git reports whether c is a git repository that the builder fetches.
func (c Context) Git() bool {
	_, ok, _ := dfgitutil.ParseGitRef(c.URL)
	return c.URL != "" && ok
}

// source is what a lock knows c by; the zero value where nothing is fetched.
func (c Context) source() lock.Source {
	op := &pb.SourceOp{Identifier: c.URL}
	if g, ok, err := dfgitutil.ParseGitRef(c.URL); ok && err == nil {
		src := lock.Source{Kind: lock.Git, Ref: g.Remote}
		if g.IndistinguishableFromLocal {
			src.Ref = "https://" + src.Ref
		}
		if g.Ref != "" {
			src.Ref += "#" + g.Ref
		}
		op = frontend.Operation(src)
	}
	in, err := frontend.Identify(op)
	if err != nil {
		return lock.Source{}
	}
	return in.Source
}

// Dockerfile says where the bytes of a Dockerfile come from. At most one of Path, Inside and URL is set;
// without them they are Data.
type Dockerfile struct {
	Path   string // a file of this machine
	Inside string // its path in a context that is no directory of this machine
	URL    string // what the builder fetches
	Data   []byte // the bytes, where they lie neither on this machine nor in the context
}

// String returns the name of a Dockerfile for a person.
func (d Dockerfile) String() string {
	return cmp.Or(d.Path, d.Inside, urlutil.RedactCredentials(d.URL), "stdin")
}

// alone reports whether nothing lies beside the Dockerfile: it is sent by itself.
func (d Dockerfile) alone() bool { return d.Path == "" && d.Inside == "" }

// ContextError says that a value names no build context.
type ContextError struct {
	Value string
	Err   error
}

func (e *ContextError) Error() string {
	return fmt.Sprintf("build context %q: %v", urlutil.RedactCredentials(e.Value), e.Err)
}

func (e *ContextError) Unwrap() error { return e.Err }

// ParseContext reads what names a context on a command line: a directory, a git repository or an http
// or https URL, told apart as docker buildx does. Standard input is the caller's. The error is a
// *ContextError.
func ParseContext(value string) (Context, error) {
	info, err := os.Stat(value)
	if err == nil && info.IsDir() {
		return Context{Dir: value}, nil
	}
	remote, refErr := IsURL(value)
	switch {
	case refErr != nil:
		return Context{}, &ContextError{value, refErr}
	case remote:
		return Context{URL: value}, nil
	case err == nil:
		return Context{}, &ContextError{value, errors.New("neither a directory nor a URL")}
	}
	return Context{}, &ContextError{value, fmt.Errorf("neither a directory nor a URL: %w", fs.ErrNotExist)}
}

// IsURL reports whether value is what the builder fetches by itself: a git repository, or an http or
// https URL. The error says what is wrong with one.
func IsURL(value string) (bool, error) {
	_, git, err := dfgitutil.ParseGitRef(value)
	if git {
		return true, err
	}
	if !isHTTP(value) {
		return false, nil
	}
	if u, err := gitutil.ParseURL(value); err != nil || u.Host == "" {
		return true, errors.Join(errors.New("not a URL with a host"), err)
	}
	return true, nil
}

func isHTTP(value string) bool {
	return strings.HasPrefix(value, "http://") || strings.HasPrefix(value, "https://")
}

// Place returns where the Dockerfile of a context is that a command line calls file, or nothing, in which
// case it is the context's own. Standard input is the caller's.
func (c Context) Place(file string) Dockerfile {
	switch {
	case isHTTP(file):
		return Dockerfile{URL: file}
	case c.Dir != "" && file == "":
		return Dockerfile{Path: lowerCase(filepath.Join(c.Dir, "Dockerfile"))}
	case c.Dir != "", c.URL != "" && filepath.IsAbs(file):
		return Dockerfile{Path: lowerCase(file)}
	}
	return Dockerfile{Inside: cmp.Or(file, "Dockerfile")}
}

// lowerCase returns the path of a Dockerfile, in lower case where that is how it lies there.
func lowerCase(path string) string {
	dir, name := filepath.Split(path)
	if name != "Dockerfile" {
		return path
	}
	// Not by opening it: some file systems take one for the other.
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return path
	}
	lower := filepath.Join(dir, "dockerfile")
	found := path
	for _, e := range entries {
		switch e.Name() {
		case name:
			return path
		case "dockerfile":
			found = lower
		}
	}
	return found
}
