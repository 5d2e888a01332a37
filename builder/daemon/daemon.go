// Package daemon runs kedge's own builder: a stock buildkitd that starts on demand, serves every kedge process of the
// user, and stops when it has been idle for some time.
//
//	lease, err := daemon.Acquire(ctx, daemon.Options{Root: dir, Serve: []string{kedge, "builder", "serve"}, Env: os.Environ()})
//	if err != nil {
//		return err
//	}
//	defer lease.Release()
//	connect(lease.Addr())
//
// buildkitd neither starts on demand nor stops by itself, so a small supervisor process runs it. Processes coordinate
// through three flocks in one folder, the root. Pid files decide nothing.
//
//	use.lock    shared by the users of the daemon; exclusive for the process that stops it. Its mtime is the last use.
//	start.lock  exclusive for a process that decides whether to start, replace or stop the daemon.
//	serve.lock  exclusive for the supervisor while it lives.
//
// The kernel drops the locks of a killed process, so the next run never trusts its state.
package daemon

import (
	"fmt"
	"strings"
	"time"
)

// Options describe a daemon. Root, Serve and Env are required.
type Options struct {
	// Root is the folder of the daemon, with its state, log and locks. Each root has one daemon. It is created with
	// mode 0700. An existing one must belong to the user and must not be writable by others.
	Root string
	// Serve is the command that runs Serve. Root is added as its last argument. Serve[0] is the absolute path of
	// the kedge executable; buildkitd and the OCI runtime can be next to it.
	Serve []string
	// Env is the environment of the daemon, in the form of os.Environ. PATH and the location of the user's BuildKit
	// configuration also come from it.
	Env []string
	// Buildkitd is the path of buildkitd, or its name on PATH. The default is the one next to Serve[0], else on PATH.
	Buildkitd string
	// Config is the path of buildkitd.toml, which must exist. The default is the one of an earlier Acquire with Keep,
	// else the first of $BUILDKITD_CONFIG,
	// /etc/buildkit/buildkitd.toml and buildkit/buildkitd.toml in the user's configuration folder. For a user other
	// than root, that folder comes before /etc. kedge overrides where the daemon keeps its state and listens.
	Config string
	// Keep makes Config the default for every later Acquire, until Stop.
	Keep bool
	// Idle is how long the daemon stays after its last use. Zero or less keeps it. The last Acquire decides.
	Idle time.Duration
	// Network is the network of a daemon that does not run as root. "host" is this machine's. "slirp4netns" is one of
	// its own, and needs slirp4netns on PATH. The default is slirp4netns if it works, unless the configuration names
	// a registry on this machine's loopback. A daemon of root uses the network in the configuration.
	Network string
}

// Status describes the daemon of a root. Log and Running are always set, the rest only if Running.
type Status struct {
	Running    bool
	Log        string // path; the previous daemon's log has ".1" added
	PID        int    // of buildkitd, or of the rootlesskit that it runs in
	Supervisor int    // its pid
	Addr       string // unix:///...
	Version    string // as buildkitd reports it
	Config     string // path of buildkitd.toml, empty for none
	Network    string // as in Options, "host" or "slirp4netns"; empty for root's daemon
	Since      time.Time
	InUse      bool          // a process holds a Lease; builds of clients without one do not count
	Idle       time.Duration // zero if the daemon stays
	StopAt     time.Time     // when it stops unless it is used; zero if InUse is true or Idle is zero
}

// MissingError says that a program that the daemon needs is not installed.
type MissingError struct {
	What     string   // "buildkitd", "runc", or the requested name
	Searched []string // files and folders, in order
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s not found in %s", e.What, strings.Join(e.Searched, ", "))
}

// RootError says that the builder's folder cannot be created.
type RootError struct{ Err error }

func (e *RootError) Error() string { return fmt.Sprintf("making the builder's directory: %v", e.Err) }

func (e *RootError) Unwrap() error { return e.Err }

// A Lack is a reason why a user other than root cannot run buildkitd.
type Lack int

const (
	SubordinateIDs Lack = iota // the user has too few; Files, User, Have and Line are set
	UserNamespaces             // the kernel forbids them; Setting is set
	Privileges                 // this process can gain none, so newuidmap cannot work
	UserName                   // the user's name is unknown
)

// SetupError says what must be set up before a user other than root can run buildkitd.
type SetupError struct {
	Lacks   Lack
	Files   []string // those of /etc/subuid and /etc/subgid with too few ids
	User    string
	Have    int    // the number of ids of the user
	Line    string // a line for Files with enough free ids
	Setting string // the sysctl that is 0
}

func (e *SetupError) Error() string {
	switch e.Lacks {
	case UserNamespaces:
		return fmt.Sprintf("user namespaces are switched off: %s is 0", e.Setting)
	case Privileges:
		return "newuidmap may not gain privileges: no_new_privs is set for this process"
	case UserName:
		return "the user has no name: there is none in /etc/passwd, and $USER is not set"
	}
	files := strings.Join(e.Files, " and ")
	if e.Have > 0 {
		return fmt.Sprintf("user %q has only %d ids in %s, and an image may use 65536", e.User, e.Have, files)
	}
	return fmt.Sprintf("user %q has no ids in %s", e.User, files)
}

// StartError says that the daemon did not start. It unwraps to syscall.ENOSPC if the root's file system is full.
type StartError struct {
	Root    string
	Log     string   // path of the whole log
	LogTail []string // its last lines, without those of level info and below
	Err     error
}

func (e *StartError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "starting the builder in %q: %v", e.Root, e.Err)
	if len(e.LogTail) > 0 {
		fmt.Fprintf(&b, "; its log %q ends with", e.Log)
		for _, l := range e.LogTail {
			b.WriteString("\n\t" + l)
		}
	}
	return b.String()
}

func (e *StartError) Unwrap() error { return e.Err }

// InUseError says that the daemon cannot be stopped or replaced because it is in use.
type InUseError struct {
	Root   string
	Builds int // running builds, if the daemon reports them
	// Changed lists the differences to the requested daemon: "buildkitd", "runtime", "config", "rootlesskit" or
	// "network". It is nil if the error comes from Stop.
	Changed []string
}

func (e *InUseError) Error() string {
	msg := fmt.Sprintf("the builder in %q is in use", e.Root)
	if e.Builds > 0 {
		msg += fmt.Sprintf(", running builds: %d", e.Builds)
	}
	if len(e.Changed) > 0 {
		msg += ", and it was started with another " + strings.Join(e.Changed, " and another ")
	}
	return msg
}
