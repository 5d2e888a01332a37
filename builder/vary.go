package builder

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// A Variation is one thing that the second build of a verification does differently on purpose.
type Variation string

// The variations that a builder can make, besides [Request.Clock].
const (
	VaryHostname Variation = "hostname"
	VaryCPUs     Variation = "cpus"   // one CPU
	VaryUmask    Variation = "umask"  // 0002 instead of 0022, in commands that a shell runs
	VaryLocale   Variation = "locale" // LC_ALL=C.UTF-8
)

// The values of the first build, which are BuildKit's own, and of a second build that varies them. The
// CPUs and the locale of a first build are those of the machine and the image.
const (
	Hostname       = "buildkitsandbox"
	VariedHostname = "kedge-varied"
	Umask          = 0o022
	VariedUmask    = 0o002
	VariedCPUs     = 1
	VariedLocale   = "C.UTF-8"
)

var shells = []string{"sh", "ash", "bash", "dash", "ksh", "zsh"}

// vary applies variations to a RUN.
func vary(variations []Variation, exec *pb.ExecOp, md *pb.OpMetadata) {
	meta := exec.Meta
	for _, variation := range variations {
		switch variation {
		case VaryHostname:
			meta.Hostname = VariedHostname
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
				meta.Args[n-1] = fmt.Sprintf("umask %04o\n", VariedUmask) + meta.Args[n-1]
			}
		}
	}
}
