package parity

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kedge-build/kedge/internal/testenv"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the first seed of TestRandom")
	seeds     = flag.Int("seeds", 50, "how many seeds TestRandom tries")
	fuzzTime  = flag.Duration("fuzz-parity", 0, "how long TestRandom tries more seeds")
)

// TestRandom builds random Dockerfiles with both programs: they give the same image or fail at the same line. What
// kedge builds has one digest whether or not it is cached, from a folder, a tar or git, on another builder, and with
// a lock. A failure names its seed; -seed N -seeds 1 runs it again.
func TestRandom(t *testing.T) {
	w := newWorld(t)
	other := testenv.StartBuildkitd(t, testenv.BuildkitdOptions{Registry: w.registry, Snapshotter: "native"})
	start := time.Now()
	for next := *firstSeed; ; {
		t.Run("seeds", func(t *testing.T) {
			for range *seeds {
				seed := next
				next++
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					t.Parallel()
					w.random(t, seed, other.Addr)
				})
			}
		})
		if time.Since(start) > *fuzzTime || t.Failed() {
			return
		}
	}
}

// random builds the case of a seed.
func (w *world) random(t *testing.T, seed uint64, other string) {
	c, portable := randomCase(seed)
	var sides sync.WaitGroup
	var a, b *outcome
	sides.Go(func() { a = w.run(t, theirs, c) })
	sides.Go(func() { b = w.run(t, ours, c) })
	sides.Wait()
	if a == nil || b == nil {
		return
	}
	defer func() {
		if t.Failed() {
			t.Logf("build %q of\n%s\ncontext: %.2000q\ndocker: exit code %d\n%s\nkedge: exit code %d\n%s",
				c.Args, c.Files["Dockerfile"], fmt.Sprint(c.Files), a.code, excerpt(a.stderr), b.code, excerpt(b.stderr))
		}
	}()
	for _, found := range differences(c, a, b) {
		if len(meant(c, found)) == 0 {
			t.Errorf("a difference that is not listed: %s", found)
		}
	}
	if a.code != 0 {
		w.sameFailure(t, c, a, b)
		return
	}
	if len(b.images) == 1 {
		w.sameDigest(t, c, digestOf(b), seed, portable, other)
	}
}

var (
	markedLine  = regexp.MustCompile(`(?m)^\s*(\d+) \| >>> `)
	failedSteps = regexp.MustCompile(`(?m)^#\d+ ERROR: `)
	randomWords = regexp.MustCompile(`\w+::\w+|/\S*/buildkit\d+`)
	missing     = regexp.MustCompile(`"[^"]*": not found`)
	dockerError = regexp.MustCompile(`(?m)^ERROR: (?:failed to build: )?(?:failed to solve: )?(.*)$`)
)

// sameFailure compares the messages of two programs that failed. If several steps fail, chance decides which of them a
// program shows: docker shows the others when the instruction of the first is taken out.
func (w *world) sameFailure(t *testing.T, c Case, a, b *outcome) {
	if b.code != 1 {
		return // kedge refuses the command line, and says so in its own words
	}
	plain := func(o *outcome) string { return randomWords.ReplaceAllString(o.plain(o.stderr), "RANDOM") }
	for try := 0; ; try++ {
		m := dockerError.FindStringSubmatch(plain(a))
		sameLines := slices.Equal(marked(a), marked(b))
		if sameLines && (m == nil || strings.Contains(plain(b), m[1])) {
			return
		}
		if len(failedSteps.FindAllString(a.stderr, 2))+len(failedSteps.FindAllString(b.stderr, 2)) > 2 {
			return
		}
		if try == 6 {
			// Of two files of one COPY that are missing, each program may name another.
			if without := func(s string) string { return missing.ReplaceAllString(s, "") }; sameLines && strings.Contains(without(plain(b)), without(m[1])) {
				return
			}
			t.Errorf("docker marks lines %v and says %q, kedge marks %v", marked(a), m, marked(b))
			return
		}
		if !sameLines {
			c.Files = maps.Clone(c.Files)
			c.Files["Dockerfile"] = blank(c.Files["Dockerfile"], marked(a))
		}
		if a = w.run(t, theirs, c); a == nil {
			return
		}
	}
}

// blank makes comments of lines of a Dockerfile, which are numbered from 1.
func blank(dockerfile string, numbers []string) string {
	lines := strings.SplitAfter(dockerfile, "\n")
	for _, number := range numbers {
		if n, err := strconv.Atoi(number); err == nil && n <= len(lines) {
			lines[n-1] = "#" + strings.TrimLeft(lines[n-1], "#")
		}
	}
	return strings.Join(lines, "")
}

// marked returns the lines of the Dockerfile that an error marks.
func marked(o *outcome) []string {
	var lines []string
	for _, m := range markedLine.FindAllStringSubmatch(o.stderr, -1) {
		lines = append(lines, m[1])
	}
	return lines
}

func digestOf(o *outcome) string {
	for _, img := range o.images {
		return img.digest
	}
	return ""
}

// sameDigest builds a case with kedge in two of the ways that must not make a difference.
func (w *world) sameDigest(t *testing.T, c Case, want string, seed uint64, portable bool, other string) {
	dir := filepath.Join(t.TempDir(), "work")
	if err := w.write(ours, dir, c); err != nil {
		t.Fatal(err)
	}
	c.Each(t, w, ours, dir, 0)
	args := c.Args[:len(c.Args)-1] // without the context
	_, ignores := c.Files[".dockerignore"]
	ways := []struct {
		name string
		do   func() (*outcome, error)
	}{
		{"cached", func() (*outcome, error) { return w.again(t, dir, c, args, ".") }},
		{"not cached", func() (*outcome, error) { return w.again(t, dir, c, args, "--no-cache", ".") }},
		{"another builder", func() (*outcome, error) { return w.again(t, dir, c, args, "--builder="+other, ".") }},
		{"a tar", func() (*outcome, error) {
			if ignores { // which has no effect in an archive
				return w.again(t, dir, c, args, ".")
			}
			packed := exec.CommandContext(t.Context(), "tar", "-C", dir, "--exclude=./Dockerfile.lock", "-c", ".")
			data, err := packed.Output()
			if err != nil {
				return nil, err
			}
			tarred := c
			tarred.Stdin = string(data)
			return w.again(t, t.TempDir(), tarred, args, "-")
		}},
		{"a lock", func() (*outcome, error) {
			if err := w.lock(t, dir, c, args); err != nil {
				return nil, err
			}
			return w.again(t, dir, c, args, "--locked", ".")
		}},
		{"a repository", func() (*outcome, error) {
			if !portable || ignores {
				return w.again(t, dir, c, args, "--no-cache", ".")
			}
			url, err := w.repository(t, c)
			if err != nil {
				return nil, err
			}
			return w.again(t, t.TempDir(), c, args, url)
		}},
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for _, i := range r.Perm(len(ways))[:2] {
		o, err := ways[i].do()
		switch {
		case err != nil:
			t.Errorf("%s: %v", ways[i].name, err)
		case o.code != 0:
			t.Errorf("%s: exit code %d\n%s", ways[i].name, o.code, excerpt(o.stderr))
		case digestOf(o) != want:
			t.Errorf("%s: digest %s, not %s", ways[i].name, digestOf(o), want)
		}
	}
}

// again builds a case with kedge in dir, with more arguments, and reads the image.
func (w *world) again(t *testing.T, dir string, c Case, args []string, more ...string) (*outcome, error) {
	archive := filepath.Join(t.TempDir(), "out.tar")
	o := w.command(t, ours, dir, c, slices.Concat([]string{"--output=type=oci,dest=" + archive}, args, more))
	if o.code != 0 {
		return o, nil
	}
	o.files, o.images, o.names = map[string]entry{}, map[string]*image{}, map[string][]string{}
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return o, o.archive("out.tar", f)
}

// lock writes the lock of a case.
func (w *world) lock(t *testing.T, dir string, c Case, args []string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.programs[ours], slices.Concat([]string{"lock"}, args, []string{"."})...)
	cmd.Dir = dir
	cmd.Env = append(append(slices.Clone(w.env[ours]), "PWD="+dir), c.Env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kedge lock: %w\n%s", err, out)
	}
	return nil
}

// repository commits the files of a case to a repository of their own, and returns its URL.
func (w *world) repository(t *testing.T, c Case) (string, error) {
	dir := filepath.Join(t.TempDir(), "checkout")
	if err := w.write(ours, dir, c); err != nil {
		return "", err
	}
	repo := testenv.NewGit(t)
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "-A", "-f"},
		{"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "all"}, {"push", "-q", repo.Dir(), "main"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=315532800 +0000") // the epoch of a folder without a base image
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("git %q: %w: %s", args, err, out)
		}
	}
	return repo.URL, nil
}
