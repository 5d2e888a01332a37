// Package daemon runs kedge's own builder: a stock buildkitd that is started when it is first needed, shared by
// every kedge process of the user, and stopped when nobody has used it for a while.
//
// Stock buildkitd neither starts on demand nor stops by itself, so a small supervisor process stands over it. All that
// processes agree on is in one directory, the root, and three flocks there decide; pid files decide nothing:
//
//	use.lock    shared: whoever uses the daemon; exclusive: whoever stops it. Its mtime is the last use.
//	start.lock  exclusive: whoever looks whether to start, replace or stop the daemon.
//	serve.lock  exclusive: the supervisor, as long as it lives.
//
// The kernel drops a flock with its holder, so kill -9 of anything leaves no state that the next run trusts.
package daemon

import (
	"fmt"
	"strings"
	"time"
)

// Options say which daemon is wanted. Root, Serve and Env are required.
type Options struct {
	// Root is the directory of the daemon: its state, its log, its locks. One daemon runs per root. It is created
	// with mode 0700; one that is there must belong to the user and be writable by nobody else.
	Root string
	// Serve is the command that runs Serve, to which Root is added as the last argument. Serve[0] is the absolute
	// path of the kedge executable; buildkitd and the OCI runtime are looked for beside it.
	Serve []string
	// Env is the environment, as os.Environ gives it: the daemon's own, and where PATH and the place of the user's
	// BuildKit configuration are read.
	Env []string
	// Buildkitd is the path of buildkitd, or its name on PATH. Empty: beside Serve[0], else on PATH.
	Buildkitd string
	// Runtime is the path of the OCI runtime, or its name on PATH. Empty: what the configuration names, else what
	// buildkitd finds on PATH, else runc or crun beside Serve[0], else crun on PATH.
	Runtime string
	// Config is the path of buildkitd.toml, which must exist. Empty: $BUILDKITD_CONFIG, /etc/buildkit/buildkitd.toml
	// or buildkit/buildkitd.toml in the user's configuration directory, the first that exists; that directory comes
	// before /etc for a user who is not root. Where the daemon keeps its state and where it listens are kedge's to say,
	// whatever the file says.
	Config string
	// Idle is how long the daemon stays after its last use; zero or less keeps it. The last Acquire decides.
	Idle time.Duration
	// Network is the network of a daemon that does not run as root: "host", that of this machine; "slirp4netns", one of
	// its own, for which slirp4netns has to be on PATH. Empty: the second where it can be, unless the configuration
	// names a registry on this machine's loopback. Root's daemon has what the configuration says.
	Network string
}

// Status is what Stat found. Root, Log and Running are always set, the rest only when Running.
type Status struct {
	Running    bool
	Root       string
	Log        string // path; the log of the daemon before is beside it, with ".1" added
	PID        int    // of buildkitd, or of the rootlesskit that it runs in
	Supervisor int    // pid
	Addr       string // unix:///...
	Version    string // what buildkitd calls itself
	Buildkitd  string // path
	Config     string // path of buildkitd.toml, empty for none
	Network    string // as in Options, "host" or "slirp4netns"; empty for root's daemon
	Since      time.Time
	InUse      bool          // somebody holds a Lease; builds of clients that have none do not count here
	Idle       time.Duration // zero: the daemon stays
	StopAt     time.Time     // when it stops if nobody uses it; zero when InUse or when Idle is zero
}

// MissingError says that a program that the daemon needs is not installed.
type MissingError struct {
	What     string   // "buildkitd", "runc", or the name that was asked for
	Searched []string // files and directories, in order
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s not found in %s", e.What, strings.Join(e.Searched, ", "))
}

// RootError says that the daemon's directory cannot be made.
type RootError struct {
	Root string
	Err  error
}

func (e *RootError) Error() string { return fmt.Sprintf("making the builder's directory: %v", e.Err) }

func (e *RootError) Unwrap() error { return e.Err }

// A Lack is what keeps a user who is not root from running buildkitd.
type Lack int

const (
	SubordinateIDs Lack = iota // the user has none, or too few: Files, User, Have and Line are set
	UserNamespaces             // the kernel forbids them: Setting is set
	Privileges                 // this process and its children may gain none, so that newuidmap cannot work
	UserName                   // nothing says who the user is
)

// SetupError says what has to be set up before a user who is not root can run buildkitd.
type SetupError struct {
	Lacks   Lack
	Files   []string // which do not give the user enough, of /etc/subuid and /etc/subgid
	User    string
	Have    int    // how many ids the user has
	Line    string // for Files, which gives enough, that nobody has
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

// StartError says that the daemon did not start. It unwraps to syscall.ENOSPC when the file system of the root is full.
type StartError struct {
	Root    string
	Log     string   // path of the whole log
	LogTail []string // its last lines, without those that tell of no trouble
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

// InUseError says that the daemon cannot be stopped, or not be replaced by the one that is wanted, because others use it.
type InUseError struct {
	Root   string
	Builds int // that run now, as far as the daemon says
	// Changed is what differs from the daemon that is wanted: "buildkitd", "runtime", "config", "rootlesskit",
	// "network"; nil from Stop.
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
