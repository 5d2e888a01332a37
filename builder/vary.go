package builder

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// A Variation is a respect in which the second build of a verification differs on purpose.
type Variation string

// The variations that a builder can make. What time of day it is it cannot choose: that is a matter of
// when a build begins.
const (
	VaryHostname Variation = "hostname"
	VaryCPUs     Variation = "cpus"   // one, whatever the machine has
	VaryUmask    Variation = "umask"  // 0002 in place of 0022, in what a shell runs
	VaryLocale   Variation = "locale" // LC_ALL=C.UTF-8
)

// What varies, and to what.
const (
	VariedCPUs   = 1
	VariedLocale = "C.UTF-8"
)

// Umasks are those of the first and the second build, where they vary; the first is BuildKit's own.
var Umasks = [2]int64{0o022, 0o002}

// variedHostname is the host name of what varies in it; BuildKit's own is buildkitsandbox.
const variedHostname = "kedge-varied"

// Hostnames are those of the first and the second build, where they vary.
var Hostnames = [2]string{"buildkitsandbox", variedHostname}

var shells = []string{"sh", "ash", "bash", "dash", "ksh", "zsh"}

// vary changes a RUN in the respects that v names.
func vary(v []Variation, exec *pb.ExecOp, md *pb.OpMetadata) {
	meta := exec.Meta
	for _, variation := range v {
		switch variation {
		case VaryHostname:
			meta.Hostname = variedHostname
		case VaryCPUs:
			if md.LinuxResources == nil {
				md.LinuxResources = &pb.LinuxResources{}
			}
			md.LinuxResources.CpusetCpus = "0"
		case VaryLocale:
			meta.Env = slices.DeleteFunc(meta.Env, func(e string) bool { return strings.HasPrefix(e, "LC_ALL=") })
			meta.Env = append(meta.Env, "LC_ALL="+VariedLocale)
		case VaryUmask:
			n := len(meta.Args)
			if n >= 3 && meta.Args[n-2] == "-c" && slices.Contains(shells, path.Base(meta.Args[0])) {
				meta.Args[n-1] = fmt.Sprintf("umask %04o\n", Umasks[1]) + meta.Args[n-1]
			}
		}
	}
}
