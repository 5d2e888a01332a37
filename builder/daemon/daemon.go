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
	// or buildkit/buildkitd.toml in the user's configuration directory, the first that exists. Where the daemon keeps
	// its state and where it listens are kedge's to say, whatever the file says.
	Config string
	// Idle is how long the daemon stays after its last use; zero or less keeps it. The last Acquire decides.
	Idle time.Duration
}

// Status is what Stat found. Root, Log and Running are always set, the rest only when Running.
type Status struct {
	Running    bool
	Root       string
	Log        string // path; the log of the daemon before is beside it, with ".1" added
	PID        int    // of buildkitd
	Supervisor int    // pid
	Addr       string // unix:///...
	Version    string // what buildkitd calls itself
	Buildkitd  string // path
	Config     string // path of buildkitd.toml, empty for none
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

// PrivilegeError says that the user may not run buildkitd, which needs root.
type PrivilegeError struct {
	UID int
}

func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("buildkitd needs root, and the user id is %d", e.UID)
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
	Root    string
	Builds  int      // that run now, as far as the daemon says
	Changed []string // what differs from the daemon that is wanted: "buildkitd", "runtime", "config"; nil from Stop
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
