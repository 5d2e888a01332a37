package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/builder/daemon"
	"github.com/kedge-build/kedge/diff/source"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/plugin"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/rules"
	"github.com/kedge-build/kedge/store"
)

// advisedError is an error of the command line that knows what to do about it.
type advisedError interface {
	error
	advice() (code int, hint string)
}

// advice returns the exit code of an error of the verbs, "builder" and "prune", and what to do about it.
func advice(err error, verbs []string) (int, string) {
	var (
		leak     *kedge.SecretError
		note     *image.AnnotationError
		own      advisedError
		foreign  *plugin.ForeignError
		config   *plugin.ConfigError
		name     *source.UsageError
		input    *kedge.InputError
		context  *builder.ContextError
		noLock   *kedge.NoLockfileError
		missed   *builder.DockerfileError
		usage    usageError
		stage    *frontend.TargetError
		ref      *kedge.RefError
		busy     *store.BusyError
		git      *kedge.GitError
		nowhere  *kedge.UnwritableError
		lost     *source.NowhereError
		damaged  *store.DamagedError
		denied   *publish.DeniedError
		once     *builder.OnceError
		policy   *kedge.PolicyError
		notFound *store.NotFoundError
	)
	if hint := whereAdvice(err); hint != "" {
		return exitFailed, hint
	}
	switch {
	case errors.As(err, &leak):
		return exitFailed, "keep it out of what the step writes, or remove the file in the same RUN; --secret-check=false if it is no secret"
	case errors.As(err, &note):
		return exitUsage, ""
	case errors.As(err, &own):
		return own.advice()
	case errors.As(err, &foreign):
		return exitFailed, "if it is not needed, remove it and run again"
	case errors.As(err, &config):
		return exitFailed, "docker has to be able to read it: repair it and run again"
	case errors.As(err, &name):
		return exitUsage, "kedge diff --help says how an image is named"
	case errors.As(err, &input):
		return exitUsage, input.Hint
	case errors.As(err, &context) && context.Name != "":
		return exitUsage, "a named context is a directory, docker-image://REFERENCE, oci-layout://DIR[:TAG], a git repository or an http(s) URL"
	case errors.As(err, &context) && errors.Is(err, fs.ErrNotExist):
		return exitFailed, ""
	case errors.As(err, &context):
		return exitUsage, "a build context is a directory, a git repository, an http(s) URL, or - for standard input"
	case errors.As(err, &noLock):
		return exitUsage, "--lockfile FILE names a place for the lock; with --locked=false, kedge build does without"
	case errors.As(err, &missed) && missed.Dockerfile.Inside != "":
		return exitFailed, "-f PATH names another Dockerfile in the build context"
	case errors.As(err, &usage):
		return exitUsage, strings.Join(slices.Concat([]string{"kedge"}, verbs, []string{"--help"}), " ") + " says how it is used"
	case errors.As(err, &stage):
		if stage.Unnamed > 0 {
			return exitUsage, ""
		}
		var names []string
		for i, s := range stage.Stages {
			if s.Name == "" {
				s.Name = fmt.Sprint(i)
			}
			names = append(names, s.Name)
		}
		return exitUsage, "its stages are " + strings.Join(names, ", ")
	case errors.As(err, &ref):
		return exitUsage, "a reference to refresh is written as in the lockfile, or as in the Dockerfile"
	case errors.As(err, &busy):
		return exitFailed, "wait until the build has ended"
	case errors.As(err, &git):
		return exitFailed, "--context-modes=keep does without git, and takes the modes on this machine"
	case errors.As(err, &nowhere):
		return exitFailed, "--lockfile PATH names another place"
	case errors.As(err, &lost):
		return exitFailed, "kedge images lists the store; docker-daemon:" + lost.Name + " is an image of the Docker Engine"
	case errors.As(err, &damaged) && damaged.Blob != "":
		return exitFailed, damagedHint
	case errors.As(err, &damaged):
		return exitFailed, "the store holds only what can be built again: remove " + damaged.Dir
	case errors.As(err, &denied):
		return exitFailed, "docker login " + denied.Host + " tells kedge, too, who pushes"
	case errors.As(err, &once):
		return exitFailed, "without it the build can be verified; with it, build on two builders and compare: kedge diff"
	case errors.As(err, &policy):
		return exitFailed, "kedge's lock says what a build may fetch; --policy disabled=true builds without the policy, as with docker"
	case errors.As(err, &notFound):
		return exitFailed, "kedge images lists what there is"
	}
	if hint := lockAdvice(err); hint != "" {
		return exitForbidden, hint
	}
	return exitFailed, builderAdvice(err)
}

// lockAdvice returns what to do where the lock forbids a build; it is empty for other errors.
func lockAdvice(err error) string {
	var (
		unlocked *builder.UnlockedError
		target   *kedge.TargetError
		syntax   lock.Errors
		conflict *lock.ConflictError
		newer    *rules.VersionError
		epoch    *kedge.EpochError
		stale    *kedge.RulesError
	)
	switch {
	case errors.As(err, &unlocked):
		for _, s := range unlocked.Sources {
			if s.Locked != "" {
				return fmt.Sprintf("kedge lock --refresh=%s takes what it is now, once you know why it changed", s.Source.Ref)
			}
		}
		return "kedge lock adds what is missing; commit the lockfile then"
	case errors.As(err, &target) && target.Moved && target.Gone:
		return fmt.Sprintf("kedge lock --target %s builds that from now on; to go on as before, name the stage: FROM ... AS NAME", target.Asked)
	case errors.As(err, &target) && target.Moved:
		return fmt.Sprintf("kedge lock --target %s builds that from now on, kedge lock --target %s the other; to build both, one needs a lock of its own: --lockfile FILE", target.Asked, target.Declared)
	case errors.As(err, &target):
		return fmt.Sprintf("kedge lock --target %s declares that; to build both, one needs a lock of its own: --lockfile FILE", target.Asked)
	case errors.As(err, &syntax):
		return "take the version of the file that was committed last, or resolve its conflict; docs/lockfile.md says what a lockfile is"
	case errors.As(err, &conflict):
		return "another command changed the lockfile, or the Dockerfile names another checksum: run again, or kedge lock --refresh=" + conflict.Source.Ref
	case errors.As(err, &newer):
		return "use the kedge that wrote the lock, or a later one"
	case errors.As(err, &epoch), errors.As(err, &stale):
		return "run again: the lock that is there now is used then"
	}
	return ""
}

// builderAdvice returns what to do where the builder cannot or is not to be had; it is empty for other errors.
func builderAdvice(err error) string {
	var (
		missing *daemon.MissingError
		setup   *daemon.SetupError
		place   *daemon.RootError
		inUse   *daemon.InUseError
		start   *daemon.StartError
		capable *builder.CapabilityError
		address *builder.AddressError
		gone    *builder.LostError
		needs   *builder.EntitlementError
		refused *builder.RefusedError
		proxy   *builder.ProxyError
		scanner *builder.ScannerError
		gateway *builder.GatewayError
	)
	switch {
	case errors.As(err, &missing):
		return install(missing.What) + ", or name a builder with --builder"
	case errors.As(err, &setup):
		return setUp(setup) + ", or name a builder with --builder"
	case errors.As(err, &place) && errors.Is(err, fs.ErrPermission):
		return "set XDG_DATA_HOME to a folder that you may write in"
	case errors.As(err, &inUse):
		return "wait until it is free, or kedge builder stop --force"
	case errors.As(err, &start):
		return "the whole log: " + start.Log
	case errors.As(err, &capable):
		return "upgrade the builder, or leave --builder out to use kedge's own"
	case errors.As(err, &address) && strings.HasPrefix(address.Address, "tcp://"):
		return "is the address right, does BuildKit listen there, and are --tlscacert, --tlscert and --tlskey what it wants? Without --builder kedge starts its own"
	case errors.As(err, &address):
		return "is the address right, and does BuildKit listen there? Without --builder kedge starts its own"
	case errors.As(err, &gone):
		if gone.Own {
			return "kedge builder logs may say why; the next build starts it again"
		}
		return "does BuildKit still run there?"
	case errors.As(err, &needs):
		return "--allow " + needs.Entitlement + " allows it"
	case errors.As(err, &refused) && refused.Own:
		return "insecure-entitlements in buildkitd.toml allows it; --buildkitd-config names the file"
	case errors.As(err, &refused):
		return "insecure-entitlements in that builder's buildkitd.toml allows it"
	case errors.As(err, &proxy):
		return "--provenance=mode=min leaves out how steps were run"
	case errors.As(err, &scanner):
		return "--sbom=generator=IMAGE, or --attest type=sbom,generator=IMAGE, names the scanner; --sbom=false does without"
	case errors.As(err, &gateway):
		return "give the address: --add-host " + gateway.Host + ":IP"
	}
	return ""
}

// install says how a program that kedge's own builder needs comes onto the machine.
func install(program string) string {
	switch program {
	case "newuidmap", "newgidmap":
		return "apt-get install uidmap (Debian, Ubuntu), or dnf install shadow-utils (Fedora)"
	case "slirp4netns":
		return "install slirp4netns, or set KEDGE_ROOTLESS_NET=host"
	}
	return fmt.Sprintf("install %s, or run make build in kedge's repository", program)
}

// setUp says what root has to do for a user.
func setUp(e *daemon.SetupError) string {
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

// withoutPolicy returns an error's text without BuildKit's words for how it came to look something up: that the lock is what
// it calls a policy says nothing about an image that is not there.
func withoutPolicy(text string) string {
	return strings.ReplaceAll(text, "could not resolve image due to policy: error resolving source metadata from policy request: ", "")
}
