package builder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
)

// Context is a build context, the main one or a named one. At most one field is set. The zero value is a
// context without files.
type Context struct {
	Dir     string   // a folder of this machine
	URL     string   // a git repository, or an archive or a file over http, for the builder to fetch
	Archive *Archive // an archive that this machine sends and the builder unpacks
	Image   string   // a reference; only for a named context
	Layout  *Layout  // an image of this machine; only for a named context
}

// String returns a context's name for messages.
func (c Context) String() string {
	if c.Archive != nil {
		return "standard input"
	}
	return cmp.Or(c.Dir, redact(c.URL))
}

// Git reports whether c is a git repository that the builder fetches.
func (c Context) Git() bool {
	_, ok, _ := dfgitutil.ParseGitRef(c.URL)
	return c.URL != "" && ok
}

// source returns the source that the lock has for c, or the zero value if nothing is fetched.
func (c Context) source() lock.Source {
	op := &pb.SourceOp{Identifier: c.URL}
	if c.Image != "" {
		op.Identifier = "docker-image://" + c.Image
	}
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

// Dockerfile says where a Dockerfile comes from. At most one of Path, Inside and URL is set. If none is,
// Data is its content.
type Dockerfile struct {
	Path   string // a file of this machine
	Inside string // its path in a context that is not a folder of this machine
	URL    string // for the builder to fetch
	Data   []byte // the content, unless Path or Inside is set
}

// String returns a Dockerfile's name for messages.
func (d Dockerfile) String() string {
	return cmp.Or(d.Path, d.Inside, redact(d.URL), "stdin")
}

// Named returns info with the name that d has in messages. The frontend knows the file by the last element
// of its path.
func (d Dockerfile) Named(info *pb.SourceInfo) *pb.SourceInfo {
	if info == nil || d.Inside != "" || info.Filename != d.filename() {
		return info
	}
	info = info.CloneVT()
	info.Filename = d.String()
	return info
}

// named gives the sources that err carries the names of Named.
func (d Dockerfile) named(err error) error {
	for rest := err; ; {
		var e *errdefs.SourceError
		if !errors.As(rest, &e) {
			return err
		}
		e.Info, rest = d.Named(e.Info), e.Unwrap()
	}
}

// filename returns the frontend's name for d.
func (d Dockerfile) filename() string {
	switch {
	case d.Inside != "":
		return d.Inside
	case d.Path != "":
		return filepath.Base(d.Path)
	}
	return "Dockerfile"
}

// alone reports whether the Dockerfile is in no folder, so that it is sent by itself.
func (d Dockerfile) alone() bool { return d.Path == "" && d.Inside == "" }

// ContextError says that Value is not a build context.
type ContextError struct {
	Name  string // of a named context; empty for the main one
	Value string
	Err   error
}

func (e *ContextError) Error() string {
	if e.Name != "" {
		return redact(fmt.Sprintf("build context %s=%s: %v", e.Name, e.Value, e.Err))
	}
	return redact(fmt.Sprintf("build context %q: %v", e.Value, e.Err))
}

func (e *ContextError) Unwrap() error { return e.Err }

// ParseContext parses a context on a command line: a folder, a git repository, or an http or https URL,
// by the rules of docker buildx. The caller handles standard input. The error is a *ContextError.
func ParseContext(value string) (Context, error) {
	info, err := os.Stat(value)
	if err == nil && info.IsDir() {
		return Context{Dir: value}, nil
	}
	remote, refErr := isURL(value)
	switch {
	case refErr != nil:
		return Context{}, &ContextError{Value: value, Err: refErr}
	case remote:
		return Context{URL: value}, nil
	case err == nil:
		return Context{}, &ContextError{Value: value, Err: errors.New("neither a directory nor a URL")}
	}
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) && !errors.Is(err, fs.ErrNotExist) {
		return Context{}, &ContextError{Value: value, Err: failed.Err}
	}
	return Context{}, &ContextError{Value: value, Err: fmt.Errorf("neither a directory nor a URL: %w", fs.ErrNotExist)}
}

// ParseNamed parses a named context: a value for ParseContext, docker-image://REFERENCE or
// oci-layout://DIR[:TAG][@DIGEST]. It also returns the name by which the frontend looks up the context,
// which has neither docker.io nor latest in it if it is an image. The error is a *ContextError.
func ParseNamed(name, value string) (string, Context, error) {
	fail := func(err error) (string, Context, error) {
		return "", Context{}, &ContextError{Name: name, Value: value, Err: err}
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		// The names of stages are in lower case.
		if named, err = reference.ParseNormalizedNamed(strings.ToLower(name)); err != nil {
			return fail(fmt.Errorf("%q is not a name of a stage or an image: %w", name, err))
		}
	}
	known := strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	scheme, rest, _ := strings.Cut(value, "://")
	switch scheme {
	case "docker-image":
		if _, err := reference.ParseNormalizedNamed(rest); err != nil {
			return fail(fmt.Errorf("%q is not a reference of an image: %w", rest, err))
		}
		return known, Context{Image: rest}, nil
	case "oci-layout":
		layout, err := parseLayout(rest)
		if err != nil {
			return fail(err)
		}
		return known, Context{Layout: layout}, nil
	}
	c, err := ParseContext(value)
	if failed := (*ContextError)(nil); errors.As(err, &failed) {
		return fail(failed.Err)
	}
	return known, c, err
}

// isURL reports whether value is a git repository, or an http or https URL. The error says why such a
// value is malformed.
func isURL(value string) (bool, error) {
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

// Dockerfile returns the place of a context's Dockerfile. file is its name on the command line, or empty
// for the context's own. The caller handles standard input.
func (c Context) Dockerfile(file string) Dockerfile {
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

// lowerCase returns the path of a Dockerfile, with the name "dockerfile" if only that exists.
func lowerCase(path string) string {
	dir, name := filepath.Split(path)
	if name != "Dockerfile" {
		return path
	}
	// By listing the folder, since some file systems ignore case.
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
