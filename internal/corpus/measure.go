package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/rig"
)

// notReproducible is kedge verify's exit code if the builds differ.
const notReproducible = 3

// maxKept bounds the store of -keep, in bytes.
const maxKept = 20 << 30

// A measurement builds contexts.
type measurement struct {
	*rig.Rig
	dir, data string // for all files; $XDG_DATA_HOME
	buildkit  bool   // also measure BuildKit alone
	keep      bool   // keep kedge's store
	vary      string // what kedge verify --vary gets, "" for its default
	offline   bool   // also replay what is identical without a network
	log       io.Writer
}

// measure builds one context in every way. A failed build is a result, not an error; measure only fails if
// ctx ends. clean removes the files of the builds.
func (m *measurement) measure(ctx context.Context, c buildContext, timeout time.Duration) (result, error) {
	begin := time.Now()
	res := result{Context: c.name, Date: begin.UTC().Truncate(time.Second)}
	within := func(way func(context.Context, buildContext) *outcome) *outcome {
		ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not built within %s", timeout))
		defer cancel()
		return way(ctx, c)
	}
	if m.buildkit {
		m.say("%s: buildctl build, twice", c.name)
		res.BuildKit = within(m.buildTwice)
	}
	if ctx.Err() == nil {
		m.say("%s: kedge verify", c.name)
		res.Kedge = within(m.verify)
	}
	if ctx.Err() == nil && m.offline && res.Kedge.same() {
		m.say("%s: recorded, and replayed offline", c.name)
		res.Offline = within(func(ctx context.Context, c buildContext) *outcome {
			replayed, err := m.replay(ctx, c)
			return offline(res.Kedge.Digests, replayed, err)
		})
	}
	if ctx.Err() != nil {
		return res, ctx.Err() // an interrupted build has no result
	}
	res.Seconds = time.Since(begin).Seconds()
	return res, nil
}

// buildTwice builds a context twice with BuildKit's own options for a reproducible image.
func (m *measurement) buildTwice(ctx context.Context, c buildContext) *outcome {
	var digests []string
	for i := range 2 {
		metadata := filepath.Join(m.dir, "metadata.json")
		archive := filepath.Join(m.dir, "image"+strconv.Itoa(i)+".tar")
		_, err := m.command(ctx, m.Buildctl, "--addr="+m.Addr, "build", "--no-cache", "--progress=plain",
			"--frontend=dockerfile.v0", "--local=context="+c.dir, "--local=dockerfile="+c.dir,
			"--opt=build-arg:SOURCE_DATE_EPOCH="+strconv.FormatInt(m.Registry.Created.Unix(), 10),
			"--output=type=oci,rewrite-timestamp=true,dest="+archive, "--metadata-file="+metadata)
		os.Remove(archive) // only the digest is needed
		if err != nil {
			return &outcome{Error: reason(err)}
		}
		var built struct {
			Digest string `json:"containerimage.digest"` // of the manifest, since there is no index
		}
		content, err := os.ReadFile(metadata)
		if err == nil {
			err = json.Unmarshal(content, &built)
		}
		if err == nil && built.Digest == "" {
			err = errors.New("buildctl has told no digest")
		}
		if err != nil {
			return &outcome{Error: reason(err)}
		}
		digests = append(digests, built.Digest)
	}
	return &outcome{Same: digests[0] == digests[1], Digests: digests}
}

// lockfile is the lockfile of the context that is measured, which gets none itself.
func (m *measurement) lockfile() string { return filepath.Join(m.dir, "lock", "Dockerfile.lock") }

// verify builds a context twice with kedge.
func (m *measurement) verify(ctx context.Context, c buildContext) *outcome {
	if err := os.MkdirAll(filepath.Dir(m.lockfile()), 0o755); err != nil {
		return &outcome{Error: reason(err)}
	}
	args := []string{"verify", "--builder=" + m.Addr, "--no-cache", "--progress=plain", "--format=json", "--lockfile=" + m.lockfile()}
	if m.vary != "" {
		args = append(args, "--vary="+m.vary)
	}
	answer, err := m.command(ctx, m.Kedge, append(args, c.dir)...)
	exit := (*exec.ExitError)(nil)
	differ := errors.As(err, &exit) && exit.ExitCode() == notReproducible
	if err != nil && !differ {
		return &outcome{Error: reason(err)}
	}
	said, err := parseAnswer(answer)
	if err != nil {
		return &outcome{Error: reason(err)}
	}
	if m.vary != "" && m.vary != "none" && !bytes.Contains(said.Verdict, []byte(`"varied":`)) {
		return &outcome{Error: "kedge did not vary " + m.vary} // it has no library to move a clock
	}
	return &outcome{Same: !differ, Digests: []string{said.Digest}, Verdict: said.Verdict}
}

// replay records the downloads of a context that verify has built, and builds it from the record with a builder that
// has nothing, in a network without a route. It returns the digest.
func (m *measurement) replay(ctx context.Context, c buildContext) (_ string, err error) {
	if _, err := m.command(ctx, m.Kedge, "lock", "--downloads", "--builder="+m.Addr, "--progress=plain", "--lockfile="+m.lockfile(), c.dir); err != nil {
		return "", err
	}
	away, err := m.StartClosed(ctx, filepath.Join(m.dir, "closed"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, away.Stop()) }()
	out, err := output(ctx, away.Command(ctx, m.Kedge, "build", "--offline", "--builder="+away.Addr, "--progress=plain", "--format=json", "--lockfile="+m.lockfile(), c.dir))
	if err != nil {
		return "", err
	}
	said, err := parseAnswer(out)
	return said.Digest, err
}

// offline compares a replayed image with the one that verify has built.
func offline(built []string, replayed string, err error) *outcome {
	if err != nil {
		return &outcome{Error: reason(err)}
	}
	return &outcome{Same: slices.Equal(built, []string{replayed}), Digests: append(slices.Clone(built), replayed)}
}

// An answer is what kedge says of an image.
type answer struct {
	Digest  string          `json:"digest"`
	Verdict json.RawMessage `json:"verdict"`
}

func parseAnswer(text []byte) (a answer, err error) {
	if err = json.Unmarshal(text, &a); err == nil && a.Digest == "" {
		err = errors.New("it has no digest")
	}
	if err != nil {
		err = fmt.Errorf("reading kedge's answer: %w", err)
	}
	return a, err
}

// clean removes the files of the builds.
func (m *measurement) clean(ctx context.Context) error {
	if _, err := m.command(ctx, m.Buildctl, "--addr="+m.Addr, "prune", "--all"); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Dir(m.lockfile())); err != nil {
		return err
	}
	if !m.keep {
		return os.RemoveAll(m.data)
	}
	size, err := sizeOf(m.data)
	if err == nil && size > maxKept {
		err = fmt.Errorf("the kept store in %q has %d GiB: move it away and continue with -resume", m.data, size>>30)
	}
	return err
}

// sizeOf returns the total size of the files below a folder, in bytes.
func sizeOf(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// A commandError says that a program failed. It has the program's stderr.
type commandError struct {
	err    error
	stderr string
}

func (e *commandError) Error() string { return e.err.Error() + "\n" + rig.Tail(e.stderr) }
func (e *commandError) Unwrap() error { return e.err }

// command runs a program and returns its stdout, even with a *commandError.
func (m *measurement) command(ctx context.Context, program string, args ...string) ([]byte, error) {
	return output(ctx, rig.Command(ctx, m.Env, program, args...))
}

func output(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		err = &commandError{fmt.Errorf("running %s: %w", filepath.Base(cmd.Path), err), stderr.String()}
	}
	return stdout.Bytes(), err
}

// The output of a step follows its number and the second. Its failure follows its number.
var (
	stepLine = regexp.MustCompile(`^#\d+ (?:\d+\.\d+ (.*)|(ERROR: .*))$`)
	saysWhy  = regexp.MustCompile(`(?i)^(?:E|err|error|fatal|failed)\b.*[:!]|\berror: |: not found$|: No such file or directory$`)
)

// reason returns one line that explains a failed build: the first error of a step, else kedge's message,
// else the last line.
func reason(err error) string {
	failed := (*commandError)(nil)
	if !errors.As(err, &failed) {
		return err.Error()
	}
	last, said := failed.err.Error(), ""
	for line := range strings.Lines(failed.stderr) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if step := stepLine.FindStringSubmatch(line); step != nil && saysWhy.MatchString(step[1]+step[2]) {
			return step[1] + step[2]
		}
		last = line
		if message, ok := strings.CutPrefix(line, "kedge: "); ok {
			said = message
		}
	}
	if said != "" {
		return said // a hint may follow
	}
	return last
}

func (m *measurement) say(format string, args ...any) { fmt.Fprintf(m.log, format+"\n", args...) }
