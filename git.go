package kedge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/git"
	"github.com/moby/buildkit/util/urlutil"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A GitError says that git could not tell the modes of files.
type GitError struct {
	Dir string
	Err error
}

func (e *GitError) Error() string {
	return fmt.Sprintf("asking git for the modes of files in %q: %v", e.Dir, e.Err)
}

func (e *GitError) Unwrap() error { return e.Err }

// trackedIn returns gitTracked of each directory, and why git could not read some of them: those keep the
// modes that they have on this machine.
func trackedIn(ctx context.Context, dirs map[string]string, environ []string) (tracked map[string]map[string]bool, unread error) {
	tracked = map[string]map[string]bool{}
	for _, dir := range dirs {
		files, err := gitTracked(ctx, dir, environ)
		unread = errors.Join(unread, err)
		tracked[dir] = files
	}
	return tracked, unread
}

// gitTracked returns the files below dir that git tracks, and whether each is executable. It returns nil if
// dir is not in a checkout.
func gitTracked(ctx context.Context, dir string, environ []string) (map[string]bool, error) {
	if !git.InCheckout(dir) {
		return nil, nil
	}
	out, err := git.Run(ctx, dir, environ, nil, "ls-files", "--stage", "--recurse-submodules", "-z")
	if err != nil {
		return nil, &GitError{dir, err}
	}
	files := map[string]bool{}
	for line := range strings.SplitSeq(string(out), "\x00") {
		// MODE SP OBJECT SP STAGE TAB PATH; see git-ls-files(1).
		meta, path, ok := strings.Cut(line, "\t")
		if mode, _, _ := strings.Cut(meta, " "); ok && (mode == "100644" || mode == "100755") {
			files[path] = mode == "100755"
		}
	}
	return files, nil
}

// gitModules returns the paths of the submodules below dir that are checked out, and of those in them.
func gitModules(ctx context.Context, dir string, environ []string) ([]string, error) {
	out, err := git.Run(ctx, dir, environ, nil, "ls-files", "--stage", "-z")
	if err != nil {
		return nil, fmt.Errorf("asking git for the submodules in %q: %w", dir, err)
	}
	var all []string
	for line := range strings.SplitSeq(string(out), "\x00") {
		meta, name, _ := strings.Cut(line, "\t")
		if !strings.HasPrefix(meta, "160000 ") {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, name, ".git")); err != nil {
			continue
		}
		inner, err := gitModules(ctx, filepath.Join(dir, name), environ)
		if err != nil {
			return nil, err
		}
		all = append(all, name)
		for _, m := range inner {
			all = append(all, path.Join(name, m))
		}
	}
	return all, nil
}

// inModules calls ask for the paths below dir, and apart for those in each submodule: git refuses to tell about these
// from without. It returns all that ask returns.
func inModules(dir string, modules, paths []string, ask func(dir string, paths []string) ([]string, error)) ([]string, error) {
	within := map[string][]string{}
	for _, name := range paths {
		module, rest := "", name
		for _, m := range modules {
			if in, ok := strings.CutPrefix(name, m+"/"); ok && in != "" && len(m) > len(module) {
				module, rest = m, in
			}
		}
		within[module] = append(within[module], rest)
	}
	var all []string
	for _, module := range slices.Sorted(maps.Keys(within)) {
		found, err := ask(filepath.Join(dir, module), within[module])
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			all = append(all, path.Join(module, name))
		}
	}
	return all, nil
}

// gitUntracked returns the paths below dir that git neither tracks nor ignores.
func gitUntracked(ctx context.Context, dir string, environ []string, paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	out, err := git.Run(ctx, dir, environ, nil, "ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return nil, fmt.Errorf("asking git which files it does not track in %q: %w", dir, err)
	}
	others := map[string]bool{}
	for path := range strings.SplitSeq(string(out), "\x00") {
		others[path] = true
	}
	return slices.DeleteFunc(paths, func(path string) bool { return !others[path] }), nil
}

// ifModesCount returns paths if git looks at modes in dir, and nil if it does not, as on a file system
// without modes.
func ifModesCount(ctx context.Context, dir string, environ []string, paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	out, err := git.Run(ctx, dir, environ, nil, "config", "--default", "true", "--type", "bool", "--get", "core.fileMode")
	if err != nil {
		return nil, fmt.Errorf("asking git whether modes count in %q: %w", dir, err)
	}
	if strings.TrimSpace(string(out)) == "false" {
		return nil, nil
	}
	return paths, nil
}

// gitIgnored returns the paths below dir that git ignores.
func gitIgnored(ctx context.Context, dir string, environ []string, paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	out, err := git.Run(ctx, dir, environ, []byte(strings.Join(paths, "\x00")), "check-ignore", "--stdin", "-z")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, nil // it ignores none
	}
	if err != nil {
		return nil, fmt.Errorf("asking git which files it ignores in %q: %w", dir, err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

// GitLabels says whether an image has labels about the checkout of its context, as docker buildx sets them. The zero value
// sets none.
type GitLabels struct {
	On    bool
	Dirty bool // the commit of a checkout with other files than those of the commit has the suffix -dirty
}

// of returns the labels for a context and its Dockerfile: the commit, the remote and the path of the Dockerfile. What git
// cannot tell is left out.
func (l GitLabels) of(ctx context.Context, dir, dockerfile string, environ []string) map[string]string {
	ask := func(args ...string) string {
		out, err := git.Run(ctx, dir, environ, nil, args...)
		if err != nil {
			return ""
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	labels := map[string]string{}
	root := ask("rev-parse", "--show-toplevel")
	if root == "" {
		return labels
	}
	if commit := ask("rev-parse", "--verify", "--quiet", "HEAD"); commit != "" {
		if l.Dirty && ask("status", "--porcelain", "--ignored") != "" {
			commit += "-dirty"
		}
		labels[ocispec.AnnotationRevision] = commit
	}
	remotes := []string{"origin", "upstream"}
	if branch := ask("symbolic-ref", "-q", "HEAD"); branch != "" {
		remotes = append([]string{ask("for-each-ref", "--format=%(upstream:remotename)", branch)}, remotes...)
	}
	for _, remote := range remotes {
		if url := ask("remote", "get-url", remote); url != "" {
			labels[ocispec.AnnotationSource] = urlutil.RedactCredentials(url)
			break
		}
	}
	if dockerfile == "" {
		return labels
	}
	real, err := filepath.EvalSymlinks(filepath.Dir(dockerfile))
	if err == nil {
		real, err = filepath.Abs(filepath.Join(real, filepath.Base(dockerfile)))
	}
	if rel, outside := filepath.Rel(root, real); err == nil && outside == nil && filepath.IsLocal(rel) {
		labels["com.docker.image.source.entrypoint"] = rel
	}
	return labels
}
