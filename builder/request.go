package builder

import (
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Request says what to build, and from what.
type Request struct {
	Context    Context
	Dockerfile Dockerfile
	Parsed     *frontend.Dockerfile
	Target     string
	Platforms  []string           // empty: the builder's own
	Args       map[string]string  // build args
	Contexts   map[string]Context // named contexts
	NoCache    bool
	Settings

	Attest Attest

	Lock   *lock.File    // what is locked; not changed
	Locked bool          // nothing may be added to it
	Relock []lock.Source // sources to look up besides those of the build

	// Epoch is SOURCE_DATE_EPOCH. Zero: NewEpoch is asked, with the newest creation time of the base
	// images, or the zero time.
	Epoch    time.Time
	NewEpoch func(newestBase time.Time) time.Time

	// Tracked are, by the directory of a context, the files in it that git tracks, and whether each is
	// executable: they are sent with the modes that git records.
	Tracked map[string]map[string]bool
	// Leave are files that no build is sent: the lockfile, which is not part of what it locks.
	Leave []string
	// Vary are the respects in which a second build differs from the first.
	Vary []Variation
	// Compare is the first build, where this is the second: they must be sent the same files.
	Compare *Result

	Auth *configfile.ConfigFile // credentials, as docker keeps them
	// Status gets the progress of the build; it is closed at its end. It may be nil.
	Status chan *client.SolveStatus
}

// Remote reports whether the builder is needed to fetch the context or to read the Dockerfile.
func (r *Request) Remote() bool {
	return r.Context.URL != "" || r.Dockerfile.URL != "" || r.Dockerfile.Inside != ""
}

// Directories returns the contexts that are directories, by the name of their mount.
func (r *Request) Directories() map[string]string {
	dirs := map[string]string{}
	if r.Context.Dir != "" {
		dirs["context"] = r.Context.Dir
	}
	for name, c := range r.Contexts {
		if c.Dir != "" {
			dirs["context-"+name] = c.Dir
		}
	}
	return dirs
}

// Resolution is what a build is made from.
type Resolution struct {
	Lock  *lock.File // Request.Lock and what was added
	Used  map[lock.Source]bool
	Epoch time.Time
	Args  []frontend.Arg // that the target uses
}

// Result is a build as BuildKit exported it.
type Result struct {
	Resolution
	Root      ocispec.Descriptor // manifest or index
	Platforms []Platform
	// Started and Finished are when this build began and ended, by this machine's clock.
	Started, Finished time.Time
	// Began and Ended are when the last RUN began, and when one last ended, of those that were not
	// taken from the cache, by this machine's clock; zero where all were.
	Began, Ended time.Time

	// Warnings are what the frontend warns of.
	Warnings []*client.VertexWarning

	// Sent are, by the directory of a context, the paths in it that were sent, sorted.
	Sent map[string][]string

	made []made
	sent map[string]string
}

// Platform is the part of a Result that is for one platform.
type Platform struct {
	Platform                ocispec.Platform
	BaseLayers, BaseHistory int             // the lowest, which come from the base image
	BaseRef                 string          // of the base image, where it has one
	Steps                   []frontend.Step // behind each layer above the base
}
