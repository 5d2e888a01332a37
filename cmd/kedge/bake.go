package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/bake"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/publish"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
	"google.golang.org/grpc/codes"
)

// resolveFlags are the flags of bake that docker buildx bake resolves.
func resolveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "file", Aliases: []string{"f"}, Usage: "a definition `FILE`: HCL, JSON or a compose file, or - for standard input (default: those in the folder)"},
		&cli.StringSliceFlag{Name: "set", Usage: "override a value of targets, `TARGET.KEY=VALUE`"},
		&cli.StringSliceFlag{Name: "var", Usage: "set a variable of the definition, `NAME=VALUE`"},
		&cli.StringSliceFlag{Name: "allow", Usage: "allow the definition a `PRIVILEGE`: fs.read=PATH, fs.write=PATH, fs=PATH, ssh, network.host and others"},
		&cli.StringFlag{Name: "provenance", Usage: "attach provenance: true, false or `ATTRIBUTES`"},
		&cli.StringFlag{Name: "sbom", Usage: "attach a list of the image's contents: true, false or `ATTRIBUTES`"},
		&cli.BoolFlag{Name: "push", Usage: "push the images to the registries of their names"},
		&cli.BoolFlag{Name: "load", Usage: "load the images into Docker"},
		&cli.BoolFlag{Name: "pull", Usage: "print which tags have moved since they were locked; the build uses the locked images"},
		&cli.BoolFlag{Name: "no-cache", Usage: "take no step from the builder's cache"},
		&cli.StringFlag{Name: "call", Usage: "ask the frontends instead of building: check, outline or targets"},
	}
}

func (p *process) bakeVerb() *cli.Command {
	resolve := resolveFlags()
	shared := append(append([]cli.Flag{p.lockedFlag(), varyFlag()}, builderFlags()...),
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: "auto, tty, plain, rawjson, none or quiet", EnvVars: []string{"BUILDKIT_PROGRESS"}},
		policyFlag(),
		&cli.BoolFlag{Name: "verify", Usage: "build each target a second time and compare"},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"D"}, Usage: "print details of warnings and errors"})
	return &cli.Command{
		Name: "bake", Usage: "build the targets of a bake definition or a compose file", ArgsUsage: "[TARGET...]",
		Description: "docker buildx bake --print resolves the definition; kedge builds each target as kedge build does.",
		Flags: slices.Concat(resolve, shared, []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "short for --call=check"},
			&cli.BoolFlag{Name: "print", Usage: "print what would be built, and build nothing"},
			&cli.StringFlag{Name: "list", Usage: "print the `targets` or the variables of the definition"},
			&cli.StringFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "how targets are built side by side: `N` at once, fail-fast or defer-error; both by MODE,parallel=N"},
			&cli.StringFlag{Name: "metadata-file", Usage: "write what was built, as JSON by target, to `FILE`"},
		}),
		Action: func(c *cli.Context) error { return p.bake(c, resolve, shared) },
	}
}

func (p *process) bake(c *cli.Context, resolve, shared []cli.Flag) error {
	args := []string{"bake"}
	for _, f := range resolve {
		args = append(args, repeated(c, f.Names()[0])...)
	}
	if c.Bool("check") {
		args = append(args, "--call=check")
	}
	args = append(args, "--progress="+c.String("progress"))
	if name := c.String("builder"); name != "" && !strings.Contains(name, "://") {
		args = append(args, "--builder="+name) // it reads a definition that is not of this machine
	}
	jobs, err := bake.ParseJobs(c.String("jobs"))
	if err != nil {
		return usageError{err}
	}
	if c.String("list") != "" {
		return p.resolveBake(c.Context, p.stdout, append(append(args, "--list="+c.String("list")), c.Args().Slice()...))
	}
	args = append(append(args, "--print"), c.Args().Slice()...)
	if c.Bool("print") {
		return p.resolveBake(c.Context, p.stdout, args)
	}
	var printed bytes.Buffer
	if err := p.resolveBake(c.Context, &printed, args); err != nil {
		if bake.Remote(c.Args().First()) && c.Err() == nil {
			p.hintReader(c)
		}
		return err
	}
	url := ""
	if bake.Remote(c.Args().First()) {
		url = c.Args().First()
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	d, err := bake.Parse(printed.Bytes(), dir, url)
	if err != nil {
		return err
	}
	if err := p.checkPrivileges(c, d, url != ""); err != nil {
		return err
	}
	if path := c.String("metadata-file"); path != "" {
		if err := publish.CheckFile(path); err != nil {
			return err
		}
	}
	b := &baking{process: p, verify: c.Bool("verify"), jobs: jobs, built: map[string]*baked{}}
	b.call, b.json = c.String("call"), strings.Contains(c.String("call"), "format=json")
	b.quiet = c.String("progress") == string(progressui.QuietMode) && p.env["BUILDKIT_PROGRESS"] != string(progressui.QuietMode)
	b.noPolicy = slices.Contains(c.StringSlice("policy"), "disabled=true")
	for _, f := range shared {
		if name := f.Names()[0]; name != "verify" {
			b.words = append(b.words, repeated(c, name)...)
		}
	}
	if b.dir, err = os.MkdirTemp("", "kedge-bake-*"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	code := b.run(c.Context, d)
	if b.json {
		if err := b.writeCalls(printed.Bytes()); err != nil {
			return err
		}
	}
	if err := b.writeMetadata(c.Context, c.String("metadata-file")); err != nil {
		return err
	}
	if code != exitOK {
		return statusError(code)
	}
	return nil
}

// repeated returns a flag as it was given.
func repeated(c *cli.Context, name string) []string {
	if !c.IsSet(name) {
		return nil
	}
	var words []string
	switch v := c.Value(name).(type) {
	case cli.StringSlice:
		for _, value := range v.Value() {
			words = append(words, "--"+name+"="+value)
		}
	case []string:
		for _, value := range v {
			words = append(words, "--"+name+"="+value)
		}
	default:
		words = append(words, fmt.Sprintf("--%s=%v", name, v))
	}
	return words
}

// checkPrivileges ends with an error if a definition needs what the command line does not allow, and the user on a
// terminal does not either. remote says that the definition is not of this machine.
func (p *process) checkPrivileges(c *cli.Context, d *bake.Definition, remote bool) error {
	paths, invalid := p.checksPaths(remote)
	err := d.Check(bake.Allowed{Words: c.StringSlice("allow"), Set: c.StringSlice("set"), Paths: paths})
	refused := (*bake.PrivilegeError)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	if invalid != nil || p.view.mode == progressui.RawJSONMode {
		return cmp.Or(invalid, err)
	}
	fmt.Fprintf(p.stderr, "Your build is requesting privileges for following possibly insecure capabilities:\n\n")
	for _, need := range refused.Needs {
		fmt.Fprintf(p.stderr, " - %s\n", harmless(need))
	}
	fmt.Fprintln(p.stderr)
	if !isTerminal(p.stdin) {
		return err
	}
	fmt.Fprintf(p.stderr, "In order to not see this message in the future pass %q to grant requested privileges.\n", strings.Join(refused.Flags, " "))
	fmt.Fprint(p.stderr, "Do you want to grant requested privileges and continue? [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(p.stdin).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case line := <-answer:
		if strings.EqualFold(line, "y") {
			return nil
		}
		return err
	case <-c.Done():
		return context.Cause(c.Context)
	}
}

// checksPaths reports whether the paths of a definition need to be allowed: by default, and if a variable is invalid.
func (p *process) checksPaths(remote bool) (checks bool, err error) {
	checks = true
	for _, name := range []string{"BAKE_ALLOW_REMOTE_FS_ACCESS", "BUILDX_BAKE_ENTITLEMENTS_FS"} { // the last one wins
		value, set := p.env[name]
		if !set || name == "BAKE_ALLOW_REMOTE_FS_ACCESS" && !remote {
			continue
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return true, usagef("$%s is %q, and neither true nor false", name, value)
		}
		checks = on == (name == "BUILDX_BAKE_ENTITLEMENTS_FS")
	}
	return checks, nil
}

// hintReader gives a hint if docker buildx has no builder to read a definition of a repository with: it cannot use an
// address, nor kedge's own builder.
func (p *process) hintReader(c *cli.Context) {
	name, _ := p.namedBuilder(c)
	if name != "" && !strings.Contains(name, "://") {
		return
	}
	ctx, cancel := context.WithTimeout(c.Context, patience)
	defer cancel()
	if engine, err := p.findEngine(ctx); err == nil {
		engine.Close()
		return
	}
	p.hint("docker buildx reads the definition of a repository, and no Docker Engine answers it: --builder NAME names another of its builders")
}

// resolveBake runs docker buildx bake, which reads a definition and builds nothing.
func (p *process) resolveBake(ctx context.Context, out io.Writer, args []string) error {
	program, err := realBuildx(p.env, true)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Args[0] = "docker-buildx"
	cmd.Env = slices.DeleteFunc(slices.Clone(p.environ), func(kv string) bool { return strings.HasPrefix(kv, "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND=") })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdin, out, p.stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return statusError(exitFailed) // buildx has said why
	}
	return err
}

// A baking builds the targets of a definition.
type baking struct {
	process  *process
	verify   bool
	call     string
	json     bool // what call answers is one document
	quiet    bool // nothing is said of a target that was built
	noPolicy bool // whatever the definition says
	jobs     bake.Jobs
	words    []string // flags for each target
	dir      string   // a temporary folder
	screen   *screen

	built map[string]*baked
}

// baked is what became of one target.
type baked struct {
	done           chan struct{}
	code           int
	aborted        bool // because of another target
	stdout, stderr bytes.Buffer
	metadata       map[string]any
}

// run builds all targets, side by side, and returns the exit code.
func (b *baking) run(ctx context.Context, d *bake.Definition) int {
	locks := lockfiles(d)
	b.screen = newScreen(b.process)
	before := map[string]*baked{} // the last target that uses a lockfile which does not exist yet
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slots := make(chan struct{}, cmp.Or(b.jobs.Parallel, len(d.Targets)))
	for _, t := range d.Targets {
		b.built[t.Name] = &baked{done: make(chan struct{})}
	}
	for _, t := range d.Targets {
		result := b.built[t.Name]
		path := locks[t.Name].path
		var wait []*baked
		for _, name := range t.Linked {
			wait = append(wait, b.built[name])
		}
		_, err := os.Lstat(path)
		if first := before[path]; path != "" && err != nil {
			if first != nil {
				wait = append(wait, first)
			}
			before[path] = result
		}
		slots <- struct{}{} // in this order, so that a target waits only for those that have one
		go func() {
			defer close(result.done)
			for _, other := range wait {
				<-other.done
			}
			defer func() { <-slots }()
			if b.build(ctx, t, locks[t.Name], result); result.code != exitOK && b.jobs.FailFast {
				stop(errStopped)
			}
		}()
	}
	code := exitOK
	for _, t := range d.Targets {
		result := b.built[t.Name]
		<-result.done
		code = worse(code, result.code)
	}
	if code != exitOK && len(d.Targets) > 1 && !b.jobs.FailFast {
		b.summarise(d)
	}
	b.screen.close()
	for _, t := range d.Targets {
		result := b.built[t.Name]
		_, _ = b.process.stderr.Write(result.stderr.Bytes())
		built := result.metadata["containerimage.digest"] != nil
		if result.stdout.Len() > 0 && !b.json && (!b.quiet || !built) {
			fmt.Fprintf(b.process.stdout, "target  %s\n%s", t.Name, &result.stdout)
		}
	}
	return code
}

// summarise shows what became of each target, as docker buildx bake --jobs=defer-error does.
func (b *baking) summarise(d *bake.Definition) {
	now := time.Now()
	v := &client.Vertex{Digest: digest.FromString(b.dir), Name: "[internal] target results", Started: &now, Completed: &now}
	st := &client.SolveStatus{Vertexes: []*client.Vertex{v}}
	for _, t := range d.Targets {
		outcome := "failed"
		switch result := b.built[t.Name]; {
		case result.code == exitOK:
			outcome = "succeeded"
		case result.aborted || result.code == exitInterrupt:
			outcome = "aborted"
		}
		st.Statuses = append(st.Statuses, &client.VertexStatus{
			ID: t.Name + ": " + outcome, Vertex: v.Digest, Name: outcome, Timestamp: now, Started: &now, Completed: &now,
		})
	}
	b.screen.status <- st
}

// errStopped is why a target is not built after another failed.
var errStopped = errors.New("another target failed")

// worse returns the exit code that says more: a failure comes before what the lock forbids, and that before a
// verdict.
func worse(a, b int) int {
	order := []int{exitOK, exitNo, exitForbidden, exitUsage, exitFailed, exitInterrupt}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// build builds one target.
func (b *baking) build(ctx context.Context, t *bake.Target, l bakeLock, result *baked) {
	child := *b.process
	child.env = maps.Clone(child.env)
	delete(child.env, "DOCKER_DEFAULT_PLATFORM") // the definition has the platforms; compose puts this one there
	child.screen, child.screenName = b.screen, t.Name
	child.stdout = &result.stdout
	child.stderr = b.screen.lines(t.Name, &result.stderr)
	metadata := filepath.Join(b.dir, t.Name+".json")
	words := append([]string{"build", "--metadata-file=" + metadata}, b.words...)
	if b.verify {
		words = append(words, "--verify")
	}
	if b.call != "" {
		words = append(words, "--call="+b.call)
	}
	if l.path != "" {
		words = append(words, "--lockfile="+l.path)
	}
	if l.declares {
		words = append(words, "--declare-target")
	}
	for _, name := range slices.Sorted(maps.Keys(t.Linked)) {
		other := b.built[t.Linked[name]]
		digest, ok := other.metadata["containerimage.digest"].(string)
		if other.code != exitOK || !ok {
			child.say("not built, because target %q was not", t.Linked[name])
			result.code, result.aborted = exitFailed, true
			return
		}
		words = append(words, "--build-context="+name+"=oci-layout://"+b.process.storeDir()+"@"+digest)
	}
	if t.Inline != nil {
		child.stdin = strings.NewReader(*t.Inline)
	}
	err := child.runVerb(ctx, append(words, b.own(t)...))
	child.verbs = b.process.verbs // a hint is for the user of bake
	result.code, result.aborted = child.outcome(ctx, err)
	data, err := os.ReadFile(metadata)
	if err == nil {
		err = json.Unmarshal(data, &result.metadata)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		child.say("%v", err)
		result.code = worse(result.code, exitFailed)
	}
}

// outcome returns the exit code of a target's build, after it said why it failed. The build of a target that another
// one stopped is aborted, unless it failed by itself.
func (p *process) outcome(ctx context.Context, err error) (code int, aborted bool) {
	switch {
	case err == nil || !errors.Is(context.Cause(ctx), errStopped):
		return p.exitCode(ctx, err), false
	case errors.Is(err, errStopped) || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded) || grpcerrors.Code(err) == codes.Canceled:
		p.say("not built, because %v", errStopped)
		return exitFailed, true
	}
	return p.exitCode(context.WithoutCancel(ctx), err), false
}

// own returns the words of a target itself.
func (b *baking) own(t *bake.Target) []string {
	return slices.DeleteFunc(t.Words(), func(word string) bool {
		// The definition has no format of a call.
		return b.noPolicy && strings.HasPrefix(word, "--policy=") || b.call != "" && strings.HasPrefix(word, "--call=")
	})
}

// writeCalls prints the definition with what the frontend answered for each target, as docker buildx bake does.
func (b *baking) writeCalls(printed []byte) error {
	var document map[string]map[string]any
	if err := json.Unmarshal(printed, &document); err != nil {
		return err
	}
	call, _, _ := strings.Cut(b.call, ",")
	for name, target := range document["target"] {
		answer := map[string]any{"build": target}
		if out := b.built[name].stdout.Bytes(); json.Valid(out) {
			answer[call] = json.RawMessage(out)
		}
		document["target"][name] = answer
	}
	return printJSON(b.process.stdout, document)
}

// writeMetadata writes what was built by target, as docker buildx bake does.
func (b *baking) writeMetadata(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	all := map[string]any{}
	for name, result := range b.built {
		if result.metadata != nil {
			all[name] = result.metadata
		}
	}
	return publish.WriteFile(ctx, path, func(out io.Writer) error { return printJSON(out, all) })
}

// A bakeLock is the lockfile of a target.
type bakeLock struct {
	path     string // empty for the one that kedge build takes
	declares bool   // it declares the target's stage if it declares none
}

// lockfiles returns the lockfile of each target. A Dockerfile has one, unless it has several stages that ship, or one
// that is not the last, and no lock yet: each then has its own, DOCKERFILE.STAGE.lock. One that exists is always used.
func lockfiles(d *bake.Definition) map[string]bakeLock {
	ships := map[string]map[string]bool{} // the stages that ship, by Dockerfile
	for _, t := range d.Targets {
		if t.Asked && t.Ships() && t.Dockerfile != "" {
			if ships[t.Dockerfile] == nil {
				ships[t.Dockerfile] = map[string]bool{}
			}
			ships[t.Dockerfile][t.Stage] = true
		}
	}
	locks := map[string]bakeLock{}
	for _, t := range d.Targets {
		switch {
		case t.Inline != nil && !t.Remote():
			locks[t.Name] = bakeLock{path: lock.Path(filepath.Join(t.Context, "Dockerfile."+t.Name))}
		case t.Dockerfile == "" || strings.Contains(t.Dockerfile, "://"):
		default:
			locks[t.Name] = bakeLock{path: lock.Path(t.Dockerfile)}
			if t.Stage == "" {
				break
			}
			own := lock.Path(t.Dockerfile + "." + t.Stage)
			needs := ships[t.Dockerfile][t.Stage] && (len(ships[t.Dockerfile]) > 1 || undeclared(t))
			if _, err := os.Lstat(own); err == nil || needs {
				locks[t.Name] = bakeLock{path: own, declares: true}
			}
		}
	}
	return locks
}

// undeclared reports whether the Dockerfile of a target has no lock, and a first one would not declare the target's
// stage, because that is not the last one.
func undeclared(t *bake.Target) bool {
	if _, err := os.Lstat(lock.Path(t.Dockerfile)); err == nil {
		return false
	}
	parsed := parsedDockerfile(t.Dockerfile)
	if parsed == nil {
		return false // the build says why
	}
	stage, err := parsed.Target(t.Stage)
	last, _ := parsed.Target("")
	return err == nil && stage != last
}
