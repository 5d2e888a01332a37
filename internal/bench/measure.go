package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/kedge-build/kedge/internal/rig"
)

// notReproducible is kedge verify's exit code if the builds differ.
const notReproducible = 3

// aptGoals is a build that installs a package, with goals for the ratios of
// kedge's time to BuildKit's.
type aptGoals struct {
	name, pkg               string
	cold, unchanged, verify float64
	lock                    bool // also measure kedge lock
}

// apt measures builds that install a Debian package and copy 200 files.
func (b *bench) apt(ctx context.Context, n int, g aptGoals) ([]row, error) {
	dir := filepath.Join(b.dir, g.name)
	dockerfile := "FROM debian:bookworm-slim\n" +
		"RUN apt-get update && apt-get install -y --no-install-recommends " + g.pkg + "\n" +
		"COPY files /srv/files\n"
	if err := writeContext(dir, dockerfile, 200); err != nil {
		return nil, err
	}
	b.say("%s: kedge lock, as a repository would have it", g.name)
	if _, _, err := b.runKedge(ctx, "lock", dir); err != nil {
		return nil, err
	}
	var (
		tar       = filepath.Join(b.dir, g.name+".tar")
		layout    = filepath.Join(b.dir, g.name+".oci")
		cold      = row{what: g.name + ": cold build", unit: "s", goal: g.cold}
		verify    = row{what: g.name + ": cold verify", unit: "s", goal: g.verify}
		unchanged = row{what: g.name + ": nothing changed", unit: "s", goal: g.unchanged}
		different int // number of verifications with a difference
	)
	timed := func(into *[]float64, label string, build func() (float64, error)) error {
		seconds, err := build()
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		b.say("%s: %s: %.2f s", g.name, label, seconds)
		*into = append(*into, seconds)
		return nil
	}
	kedge := func(verb string, args ...string) func() (float64, error) {
		return func() (float64, error) {
			took, _, err := b.runKedge(ctx, verb, dir, args...)
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == notReproducible {
				different++
				err = nil // a valid answer, with a valid duration
			}
			return took.Seconds(), err
		}
	}
	buildctl := func(output string) func() (float64, error) {
		return func() (float64, error) {
			took, err := b.runBuildctl(ctx, dir, output)
			return took.Seconds(), err
		}
	}
	cooled := func(build func() (float64, error)) func() (float64, error) {
		return func() (float64, error) {
			if err := os.RemoveAll(tar); err != nil {
				return 0, err
			}
			if err := b.cool(ctx); err != nil {
				return 0, err
			}
			return build()
		}
	}

	for range n {
		if err := timed(&cold.buildkit, "cold buildctl build", cooled(buildctl("type=oci,dest="+tar))); err != nil {
			return nil, err
		}
		if err := timed(&cold.kedge, "cold kedge build", cooled(kedge("build", "-o", "type=oci,dest="+tar))); err != nil {
			return nil, err
		}
		if err := timed(&verify.kedge, "cold kedge verify", cooled(kedge("verify"))); err != nil {
			return nil, err
		}
	}
	verify.buildkit = cold.buildkit // one build
	if different > 0 {
		verify.note = fmt.Sprintf("%d of %d verifications found a difference", different, n)
	}

	// A first run without measurement fills the builder's cache, kedge's store and the layout.
	for _, build := range []func() (float64, error){buildctl("type=oci,tar=false,dest=" + layout), kedge("build")} {
		if _, err := build(); err != nil {
			return nil, err
		}
	}
	for range n {
		if err := timed(&unchanged.buildkit, "buildctl build, nothing changed", buildctl("type=oci,tar=false,dest="+layout)); err != nil {
			return nil, err
		}
		if err := timed(&unchanged.kedge, "kedge build, nothing changed", kedge("build")); err != nil {
			return nil, err
		}
	}
	rows := []row{cold, unchanged, verify}
	if !g.lock {
		return rows, nil
	}
	lock := row{what: "full lock: kedge lock", unit: "s", goal: 0.3}
	asked := row{what: "full lock: registry requests", goal: 0}
	for range n {
		before := b.Registry.Requests()
		if err := timed(&lock.kedge, "kedge lock", kedge("lock")); err != nil {
			return nil, err
		}
		asked.kedge = append(asked.kedge, float64(b.Registry.Requests()-before))
	}
	return append(rows, lock, asked), nil
}

// memory measures kedge's peak memory while it writes an image with a layer of
// 1 GiB.
func (b *bench) memory(ctx context.Context, n int) ([]row, error) {
	dir, tar := filepath.Join(b.dir, "memory"), filepath.Join(b.dir, "memory.tar")
	dockerfile := "FROM debian:bookworm-slim\nRUN head -c 512M /dev/urandom >/random && head -c 512M /dev/zero >/zero\n"
	if err := writeContext(dir, dockerfile, 0); err != nil {
		return nil, err
	}
	peak := row{what: "layer of 1 GiB: peak memory", unit: "MiB", goal: 200, worst: true}
	for range n {
		if err := b.cool(ctx); err != nil {
			return nil, err
		}
		took, bytes, err := b.runKedge(ctx, "build", dir, "-o", "type=oci,dest="+tar)
		if err != nil {
			return nil, fmt.Errorf("memory: %w", err)
		}
		mib := float64(bytes) / (1 << 20)
		b.say("memory: cold kedge build: %.1f s, at most %.0f MiB", took.Seconds(), mib)
		peak.kedge = append(peak.kedge, mib)
		if err := os.Remove(tar); err != nil {
			return nil, err
		}
	}
	return []row{peak}, nil
}

// diff measures kedge diff on two OCI layouts, and diffoscope on the same images unpacked. The images share
// their base layer and differ in five files.
func (b *bench) diff(ctx context.Context, n int) ([]row, error) {
	dir := filepath.Join(b.dir, "diff")
	dockerfile := "FROM debian:bookworm-slim\nARG V\n" +
		"RUN apt-get update && apt-get install -y --no-install-recommends build-essential && for i in 1 2 3 4 5; do echo \"$V\" >/opt/$i; done\n"
	if err := writeContext(dir, dockerfile, 0); err != nil {
		return nil, err
	}
	var layouts, trees []string
	for _, v := range []string{"one", "two"} {
		layout, tree := filepath.Join(b.dir, v+".oci"), filepath.Join(b.dir, v)
		b.say("diff: building image %s", v)
		if _, _, err := b.runKedge(ctx, "build", dir, "--build-arg=V="+v, "-o", "type=oci,tar=false,dest="+layout); err != nil {
			return nil, fmt.Errorf("diff: %w", err)
		}
		if err := os.Mkdir(tree, 0o755); err != nil {
			return nil, err
		}
		// Not type=local, which was seen to hang.
		if _, _, err := b.command(ctx, b.Buildctl, "--addr="+b.Addr, "build", "--progress=plain", "--frontend=dockerfile.v0", "--local=context="+dir,
			"--local=dockerfile="+dir, "--opt=build-arg:V="+v, "--output=type=tar,dest="+tree+".tar"); err != nil {
			return nil, fmt.Errorf("diff: %w", err)
		}
		if _, _, err := b.command(ctx, "tar", "-xf", tree+".tar", "-C", tree); err != nil {
			return nil, fmt.Errorf("diff: %w", err)
		}
		layouts, trees = append(layouts, layout), append(trees, tree)
	}
	if err := b.namesAll(ctx, layouts); err != nil {
		return nil, fmt.Errorf("diff: %w", err)
	}
	took := row{what: "diff: kedge diff", unit: "s", goal: 0.5}
	peak := row{what: "diff: peak memory", unit: "MiB", goal: 100, worst: true}
	var other []float64
	for range n {
		seconds, bytes, err := b.command(ctx, b.Kedge, "diff", "oci:"+layouts[0], "oci:"+layouts[1])
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != notReproducible {
			return nil, fmt.Errorf("diff: two images that differ: %w", err)
		}
		b.say("diff: kedge diff: %.2f s", seconds.Seconds())
		took.kedge = append(took.kedge, seconds.Seconds())
		peak.kedge = append(peak.kedge, float64(bytes)/(1<<20))
		if _, err := exec.LookPath("diffoscope"); err != nil {
			took.note = "diffoscope is not here"
			continue
		}
		seconds, _, err = b.command(ctx, "diffoscope", "--text=/dev/null", trees[0], trees[1])
		if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			return nil, fmt.Errorf("diff: %w", err)
		}
		b.say("diff: diffoscope: %.2f s", seconds.Seconds())
		other = append(other, seconds.Seconds())
		took.note = "diffoscope on the unpacked trees: " + spread(other, "s")
	}
	return []row{took, peak}, nil
}

// namesAll returns an error unless kedge diff names exactly the files in which the two images differ.
func (b *bench) namesAll(ctx context.Context, layouts []string) error {
	out, err := rig.Command(ctx, b.Env, b.Kedge, "diff", "--type=file", "--format=json", "oci:"+layouts[0], "oci:"+layouts[1]).Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != notReproducible) {
		return err
	}
	var result struct{ Files []struct{ Path string } }
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("reading the output of kedge diff: %w", err)
	}
	want := []struct{ Path string }{{"/opt/1"}, {"/opt/2"}, {"/opt/3"}, {"/opt/4"}, {"/opt/5"}}
	if !slices.Equal(result.Files, want) {
		return fmt.Errorf("kedge diff names %v, not %v", result.Files, want)
	}
	return nil
}

// writeContext writes a build context with a Dockerfile, and files of 4 KiB in
// the folder files. The content is always the same.
func writeContext(dir, dockerfile string, files int) error {
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		content := make([]byte, 4<<10)
		for j := range content {
			content[j] = "0123456789abcdef"[random.IntN(16)]
		}
		if err := os.WriteFile(filepath.Join(dir, "files", fmt.Sprintf("%03d.txt", i)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }
