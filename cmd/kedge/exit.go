package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/docker"
	"github.com/kedge-build/kedge/drift"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/kedge-build/kedge/plugin"
	"github.com/kedge-build/kedge/policy"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/stack"
)

// The exit codes, the same for every verb.
const (
	exitOK        = 0
	exitFailed    = 1   // kedge could not do it
	exitUsage     = 2   // the command line makes no sense
	exitNo        = 3   // the answer is no
	exitForbidden = 4   // the lock forbids it
	exitInterrupt = 130 // a signal interrupted it
)

const exitCodes = "It exits with 0 when done, 1 if it failed, 2 for wrong usage, 3 if the answer is no,\n" +
	"4 if the lock forbids it, and 130 when interrupted."

// A statusError ends a verb with an exit code after it printed everything.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

const (
	errNo        = statusError(exitNo)
	errForbidden = statusError(exitForbidden)
)

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode prints an error and a hint, and returns the exit code.
func (p *process) exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if status := statusError(0); errors.As(err, &status) {
		return int(status)
	}
	if ctx.Err() != nil {
		p.say("interrupted")
		return exitInterrupt
	}
	for _, src := range errdefs.Sources(err) {
		src.Print(p.stderr)
	}
	code, hint := advice(err, p.verbs)
	p.sayError(withoutPolicy(err.Error()))
	if hint != "" {
		p.hint(hint)
	}
	if p.view.debug {
		fmt.Fprintf(p.stderr, "%+v\n", stack.Formatter(err))
	}
	return code
}

// sayError prints an error. To those who run docker buildx it begins as an error of buildx does.
func (p *process) sayError(text string) {
	for i, line := range strings.Split(text, "\n") {
		if i == 0 && p.plugin == buildxName {
			fmt.Fprintf(p.stderr, "ERROR: %s\n", harmless(line))
			continue
		}
		p.say("%s", line)
	}
}

// withoutPolicy removes from an error's text that BuildKit looked a source up for a policy: kedge's lock is
// that policy, and has nothing to do with an image that does not exist.
func withoutPolicy(text string) string {
	return strings.ReplaceAll(text, "could not resolve image due to policy: error resolving source metadata from policy request: ", "")
}

// advice returns the exit code of an error and a hint, which may be empty. The verbs, such as "builder" and
// "prune", are those of the command line.
func advice(err error, verbs []string) (code int, hint string) {
	for _, row := range hints {
		if code, hint, ok := row(err, verbs); ok {
			return code, hint
		}
	}
	return exitFailed, ""
}

// A row returns the exit code and the hint for the errors that it knows.
type row func(err error, verbs []string) (code int, hint string, ok bool)

// on is the row for errors of type E.
func on[E error](code int, hint func(E) string) row {
	return func(err error, _ []string) (int, string, bool) {
		var e E
		if !errors.As(err, &e) {
			return 0, "", false
		}
		return code, hint(e), true
	}
}

// forBake is on for a hint that is another one in kedge bake.
func forBake[E error](code int, hint func(err E, bake bool) string) row {
	return func(err error, verbs []string) (int, string, bool) {
		return on(code, func(e E) string { return hint(e, slices.Equal(verbs, []string{"bake"})) })(err, verbs)
	}
}

// fixed is the row for errors of type E that all have one hint.
func fixed[E error](code int, hint string) row { return on(code, func(E) string { return hint }) }

// when is a row for those errors of type E that a condition holds for.
func when[E error](condition func(E) bool, r row) row {
	return func(err error, verbs []string) (int, string, bool) {
		var e E
		if !errors.As(err, &e) || !condition(e) {
			return 0, "", false
		}
		return r(err, verbs)
	}
}

// misuse is the row for errors of type E that are a wrong command line.
func misuse[E error]() row {
	return func(err error, verbs []string) (int, string, bool) {
		var e E
		hint := strings.Join(slices.Concat([]string{"kedge"}, verbs, []string{"--help"}), " ") + " says how it is used"
		return exitUsage, hint, errors.As(err, &e)
	}
}

// hints has a row for every error that a hint or an exit code other than 1 belongs to. The first that matches
// counts.
var hints = []row{
	// Before the rows for what may be wrong with the image of the scanner.
	fixed[*builder.ScannerError](exitFailed, "--sbom=generator=IMAGE, or --attest type=sbom,generator=IMAGE, names the scanner; --sbom=false does without"),

	// A builder or an Engine is not there.
	fixed[*builder.ExporterError](exitFailed, "turn on containerd's image store (docs/builders.md), or leave --builder out to use kedge's own builder: the image is loaded into Docker all the same"),
	on(exitFailed, func(e *docker.NotFoundError) string {
		return fmt.Sprintf("docker buildx ls lists %s; an address is written tcp://HOST:PORT or unix:///PATH", strings.Join(e.Known, ", "))
	}),
	on(exitFailed, func(e *docker.StoppedError) string {
		return fmt.Sprintf("docker buildx inspect --bootstrap %s makes it", e.Builder)
	}),
	on(exitFailed, func(e *docker.ForeignError) string {
		return fmt.Sprintf("DOCKER_CONTEXT=%s, or docker context use %s, makes it the current one", e.Name, e.Name)
	}),
	fixed[*publish.PlatformsError](exitFailed, "turn on containerd's image store (docs/builders.md), or build for one platform"),
	fixed[*docker.EngineError](exitFailed, "does Docker run there, and may you use it? kedge builds without it, too: leave out --load, or its builder"),
	fixed[*docker.FileError](exitFailed, "docker's own commands write that file: mend or remove it"),
	fixed[*docker.ContextError](exitFailed, "docker context ls lists what there is; $DOCKER_HOST and $DOCKER_CONTEXT choose"),

	// The command line and what it names.
	when(func(e *kedge.SecondBuildError) bool { return e.Moved },
		fixed[*kedge.SecondBuildError](exitFailed, "its clock was moved, which a certificate, a licence or a program with a sanitizer may refuse: leave out --vary time, or give less, as in --vary time=+2h")),
	fixed[*kedge.SecretError](exitFailed, "keep it out of what the step writes, or remove the file in the same RUN; --secret-check=false if it is no secret"),
	fixed[*image.WhiteoutError](exitFailed, "rename the file, or list it in .dockerignore: .wh. begins the names by which layers delete files"),
	fixed[*image.AnnotationError](exitUsage, ""),
	on(exitUsage, (*unknownError).hint),
	fixed[*pruneError](exitUsage, "docker buildx prune frees the cache of docker's builders, kedge builder prune that of kedge's, and kedge prune removes images"),
	fixed[*plugin.NoBuildxError](exitFailed, "install docker's buildx plugin: https://docs.docker.com/go/buildx/"),
	fixed[*plugin.ShadowedError](exitFailed, "remove that folder from cliPluginsExtraDirs in docker's config.json, or its docker-buildx"),
	fixed[*plugin.KeptError](exitFailed, "remove the one that is not needed and run again"),
	fixed[*plugin.ForeignError](exitFailed, "if it is not needed, remove it and run again"),
	fixed[*plugin.ConfigError](exitFailed, "repair it, so that docker can read it, and run again"),
	func(err error, verbs []string) (int, string, bool) {
		const hint = "an IMAGE is a name or an archive, as kedge drift record --help says; without one, the verb takes that of the last build of -f DOCKERFILE"
		return exitUsage, hint, errors.As(err, new(*source.UsageError)) && slices.Contains(verbs, "drift")
	},
	fixed[*source.UsageError](exitUsage, "kedge diff --help says how an image is named"),
	on(exitUsage, func(e *kedge.InputError) string { return e.Hint }),
	when(func(e *builder.ContextError) bool { return e.Name != "" },
		fixed[*builder.ContextError](exitUsage, "a named context is a directory, docker-image://REFERENCE, oci-layout://DIR[:TAG], a git repository or an http(s) URL")),
	when(func(e *builder.ContextError) bool { return errors.Is(e, fs.ErrNotExist) }, fixed[*builder.ContextError](exitFailed, "")),
	when(func(e *builder.ContextError) bool { return errors.As(e, new(syscall.Errno)) }, fixed[*builder.ContextError](exitFailed, "")),
	fixed[*builder.ContextError](exitUsage, "a build context is a directory, a git repository, an http(s) URL, or - for standard input"),
	fixed[*kedge.LintError](exitNo, "kedge lint lists all of it, with what to write instead; --lint=warn builds all the same"),
	fixed[*kedge.RemoteLintError](exitUsage, "clone the repository, or give the Dockerfile on standard input: kedge lint -"),
	fixed[*kedge.NoLockfileError](exitUsage, "--lockfile FILE names a place for the lock; with --locked=false, kedge build does without"),
	when(func(e *builder.DockerfileError) bool { return e.Dockerfile.Inside != "" },
		fixed[*builder.DockerfileError](exitFailed, "-f PATH names another Dockerfile in the build context")),
	fixed[*kedge.SameBuilderError](exitUsage, "--second-builder names another builder; without it, both builds run on one"),
	misuse[usageError](),
	misuse[*publish.UsageError](),
	on(exitUsage, stagesHint),
	fixed[*kedge.RefError](exitUsage, "write the reference as in the lockfile, or as in the Dockerfile"),
	fixed[*store.BusyError](exitFailed, "wait until the build has ended"),
	on(exitFailed, func(e *builder.IgnoredError) string {
		return fmt.Sprintf("%s leaves %s out of the build context", e.Ignore, e.Path)
	}),
	fixed[*builder.UnreadableError](exitFailed, "docker would put an empty file into the image: let kedge read it, or list it in .dockerignore"),
	fixed[*kedge.GitError](exitFailed, "--context-modes=keep does without git, and takes the modes on this machine"),
	fixed[*kedge.UnwritableError](exitFailed, "--lockfile PATH names another place"),
	on(exitFailed, func(e *source.NowhereError) string {
		return "kedge images lists the store; docker-daemon:" + e.Name + " is an image of the Docker Engine"
	}),
	when(func(e *store.DamagedError) bool { return e.Blob != "" }, fixed[*store.DamagedError](exitFailed, damagedHint)),
	on(exitFailed, func(e *store.DamagedError) string {
		return "the store holds only what can be built again: remove " + e.Dir
	}),
	when(func(e *store.OpenError) bool { return errors.As(e, new(syscall.Errno)) },
		fixed[*store.OpenError](exitFailed, "set XDG_DATA_HOME to a folder that you may write in")),
	on(exitFailed, func(e *publish.DeniedError) string { return "docker login " + e.Host + " logs kedge in, too" }),
	fixed[*builder.OnceError](exitFailed, "without it the build can be verified; with it, build on two builders and compare: kedge diff"),
	fixed[*kedge.PolicyError](exitFailed, "kedge's lock says what a build may fetch; --policy disabled=true builds without the policy, as with docker"),
	fixed[*kedge.NoDownloadsError](exitFailed, "kedge lock --downloads locks what RUN steps download"),
	fixed[*network.NotKeptError](exitFailed, "kedge cache ls lists the downloads of a Dockerfile"),
	fixed[*network.BusyError](exitFailed, "wait until the build has ended"),
	fixed[*policy.ForeignError](exitFailed, "move it away, or name another file: -o FILE"),
	fixed[*store.NotFoundError](exitFailed, "kedge images lists what there is"),
	fixed[*noRecordError](exitFailed, "kedge drift record writes one; commit it"),
	fixed[*notBuiltError](exitFailed, "build it first, or name an IMAGE"),
	fixed[*drift.ForeignError](exitFailed, "move it away, or record beside another Dockerfile: -f FILE"),
	fixed[*drift.FormatError](exitFailed, "docs/drift.md says what a record and "+drift.SettingsFile+" are"),

	on(exitFailed, refusedDownloadsHint),
	fixed[*builder.RelayError](exitFailed, "build for another platform, or without locked downloads: kedge lock --downloads=off"),

	// The lock forbids it.
	fixed[*network.NotLockedError](exitForbidden, "kedge lock --downloads records it, and so does a build without --locked; then commit the lockfile and its record"),
	forBake(exitForbidden, unlockedHint),
	forBake(exitForbidden, targetHint),
	on(exitForbidden, func(e *publish.TargetError) string {
		return fmt.Sprintf("kedge lock --target %s declares it, and the next build ships it", e.Target)
	}),
	when(lock.Errors.Newer, fixed[lock.Errors](exitForbidden, "")),
	when(network.Errors.Newer, fixed[network.Errors](exitForbidden, "")),
	fixed[lock.Errors](exitForbidden, "take the version of the file that was committed last, or resolve its conflict; docs/lockfile.md says what a lockfile is"),
	on(exitForbidden, func(e *lock.ConflictError) string {
		return "another command changed the lockfile, or the Dockerfile names another checksum: run again, or kedge lock --refresh=" + e.Source.Ref
	}),
	fixed[network.Errors](exitForbidden, "take the version of the file that was committed last; of a conflict keep the lines of both sides, and run kedge lock --downloads"),
	on(exitForbidden, func(e *network.MismatchError) string {
		if e.Found == "" {
			return "commit the record with its lockfile; kedge lock --downloads --refresh records again"
		}
		return "commit the record and the lockfile together; kedge lock --downloads locks a record that was merged, and with --refresh records again"
	}),
	fixed[*network.ConflictError](exitForbidden, rerunHint),
	fixed[*kedge.MissingError](exitFailed, "kedge cache pull fetches downloads, and a build without --offline keeps images; what ADD fetches is never kept"),
	fixed[*builder.OfflineError](exitFailed, "a build without --offline keeps the base images of a lock with downloads; what ADD fetches is never kept (docs/hermetic.md)"),
	fixed[*network.MissingError](exitFailed, "kedge cache pull fetches them from a registry that shares them; kedge lock --downloads --refresh records what there is now"),
	fixed[*rules.VersionError](exitForbidden, "use the kedge that wrote the lock, or a later one"),
	fixed[*kedge.EpochError](exitForbidden, rerunHint),
	fixed[*kedge.RulesError](exitForbidden, rerunHint),

	// The builder cannot do it.
	on(exitFailed, func(e *daemon.MissingError) string {
		return installHint(e.What) + ", or name a builder with --builder"
	}),
	on(exitFailed, func(e *daemon.SetupError) string { return setupHint(e) + ", or name a builder with --builder" }),
	when(func(e *daemon.RootError) bool { return errors.Is(e, fs.ErrPermission) },
		fixed[*daemon.RootError](exitFailed, "set XDG_DATA_HOME to a folder that you may write in")),
	fixed[*daemon.InUseError](exitFailed, "wait until it is free, or kedge builder stop --force"),
	on(exitFailed, func(e *daemon.StartError) string { return "the whole log: " + e.Log }),
	fixed[*builder.CapabilityError](exitFailed, "upgrade the builder, or leave --builder out to use kedge's own"),
	on(exitFailed, func(e *builder.NowhereError) string {
		return "looked for the image in its registry, " + strings.Join(e.Places, " and ")
	}),
	fixed[*builder.StageNameError](exitFailed, "rename the stage: FROM ... AS NAME"),
	on(exitFailed, addressHint),
	on(exitFailed, func(e *builder.LostError) string {
		if e.Own {
			return "kedge builder logs may say why; the next build starts it again"
		}
		return "does BuildKit still run there?"
	}),
	on(exitFailed, func(e *builder.DamagedError) string {
		if e.Kept != nil {
			return fmt.Sprintf("%v; kedge builder prune, or docker buildx prune, does it, and the next build fetches %s again", e.Kept, e.Digest)
		}
		return "the registry sent other bytes than " + e.Digest + ", more than once: the image has to be pushed there again; the builder keeps nothing of it"
	}),
	on(exitFailed, func(e *builder.EntitlementError) string { return "--allow " + e.Entitlement + " allows it" }),
	on(exitFailed, func(e *builder.RefusedError) string {
		if e.Own {
			return "insecure-entitlements in buildkitd.toml allows it; --buildkitd-config names the file"
		}
		return "insecure-entitlements in that builder's buildkitd.toml allows it"
	}),
	fixed[*builder.CredentialsError](exitFailed, "--provenance=mode=min leaves the Dockerfile out; a login for the host, or a secret that a RUN mounts, is in no image"),
	fixed[*builder.ProxyError](exitFailed, "--provenance=mode=min leaves out how steps were run"),
	on(exitFailed, func(e *builder.GatewayError) string { return "give the address: --add-host " + e.Host + ":IP" }),
}

const (
	damagedHint = "kedge prune removes damaged images; build them again"
	rerunHint   = "run again: the next run uses the changed lock"
)

func stagesHint(e *frontend.TargetError) string {
	if e.Unnamed > 0 {
		return ""
	}
	var names []string
	for _, s := range e.Stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	if names == nil {
		return "no stage has a name: FROM ... AS NAME"
	}
	return "its stages with a name are " + strings.Join(names, ", ")
}

func unlockedHint(e *builder.UnlockedError, bake bool) string {
	for _, s := range e.Sources {
		if s.Source.Kind == lock.Local && s.Found == "" && s.Locked != "" {
			return fmt.Sprintf("build it here as %s, or kedge lock --refresh=%s takes what its registry has", s.Source.Ref, s.Source.Ref)
		}
		if s.Locked != "" {
			return fmt.Sprintf("kedge lock --refresh=%s takes what it is now, once you know why it changed", s.Source.Ref)
		}
	}
	if bake {
		return "kedge bake --locked=false adds what is missing; then commit the lockfile"
	}
	return "kedge lock adds what is missing; then commit the lockfile"
}

// refusedDownloadsHint says what a step can use instead of what no record of downloads can hold.
func refusedDownloadsHint(e *builder.RefusedDownloadsError) string {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(errors.Join(e.Troubles...), &unknown):
		return "--downloads-ca FILE names the authority that signed the server's certificate"
	case len(e.Refused) > 0:
		return e.Refused[0].Advice
	case len(e.Silent) > 0:
		return silentAdvice
	}
	return ""
}

func targetHint(e *frontend.DeclaredTargetError, bake bool) string {
	switch {
	case e.Ships && bake:
		own := lock.Path(strings.TrimSuffix(e.Lockfile, lock.Path("")) + "." + e.Asked)
		return fmt.Sprintf("kedge lock --target %s declares that; to ship both, kedge lock --target %s --lockfile %s gives it a lock of its own", e.Asked, e.Asked, own)
	case e.Gone:
		return fmt.Sprintf("kedge lock --target %s ships that from now on; to go on as before, name the stage: FROM ... AS NAME", e.Asked)
	case e.Moved:
		return fmt.Sprintf("kedge lock --target %s ships that from now on, kedge lock --target %s the other; --target NAME builds either", e.Asked, e.Declared)
	case e.Ships:
		return fmt.Sprintf("kedge lock --target %s declares that; to ship both, one needs a lock of its own: --lockfile FILE", e.Asked)
	}
	return fmt.Sprintf("kedge lock --target %s declares that; kedge lock --strict-target=false lets other targets be built, too", e.Asked)
}

func addressHint(e *builder.AddressError) string {
	if strings.HasPrefix(e.Address, "tcp://") {
		return "is the address right, does BuildKit listen there, and are --tlscacert, --tlscert and --tlskey what it wants? Without --builder kedge starts its own"
	}
	return "is the address right, does BuildKit listen there, and may you use it? Without --builder kedge starts its own"
}

// installHint says how to install a program that kedge's own builder needs.
func installHint(program string) string {
	switch program {
	case "newuidmap", "newgidmap":
		return "apt-get install uidmap (Debian, Ubuntu), or dnf install shadow-utils (Fedora)"
	case "slirp4netns":
		return "install slirp4netns, or set KEDGE_ROOTLESS_NET=host"
	}
	return fmt.Sprintf("install %s, or run make build in kedge's repository", program)
}

// setupHint says what root has to do for a user.
func setupHint(e *daemon.SetupError) string {
	switch e.Lacks {
	case daemon.UserNamespaces:
		if e.Setting == "user.max_user_namespaces" {
			return "as root: sysctl -w user.max_user_namespaces=65536"
		}
		return fmt.Sprintf("as root: sysctl -w %s=1", e.Setting)
	case daemon.Privileges:
		return "run kedge where they can be gained: without setpriv --no-new-privs, systemd's NoNewPrivileges= or a container's no-new-privileges"
	case daemon.UserName:
		return "run kedge as a user who has a name"
	}
	return fmt.Sprintf("as root: echo %s | tee -a %s", e.Line, strings.Join(e.Files, " "))
}
