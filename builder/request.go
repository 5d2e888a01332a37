package builder

import (
	"context"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/kedge-build/kedge/builder/gitdir"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/network"
	"github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Request describes one build. A Builder does not change it.
type Request struct {
	Context    Context
	Dockerfile Dockerfile
	Parsed     *frontend.Dockerfile
	Target     string
	Platforms  []string           // empty: the builder's own
	Args       map[string]string  // build args
	Contexts   map[string]Context // named contexts, by name
	NoCache    bool
	Settings

	Attest Attest

	// Accept, unless it is nil, gets the platforms of the image before anything is executed, and can end the build.
	Accept func([]ocispec.Platform) error

	// Downloads, unless it is nil, takes the network from RUN steps, and serves what they download.
	Downloads *Downloads

	Local LocalImages // images that no registry has; may be nil

	// Offline, unless it is nil, makes the build fetch nothing. It returns the layout with an image that the lock
	// pins, or nil if this machine does not have the image.
	Offline func(ctx context.Context, s lock.Source, pin string) (*Layout, error)

	Lock   *lock.File    // the pins to use
	Locked bool          // fail instead of adding a pin
	Relock []lock.Source // sources to look up in addition to those of the build

	// Epoch is SOURCE_DATE_EPOCH. If it is zero, NewEpoch chooses it. NewEpoch gets the newest creation
	// time of the base images, or the zero time if none has one.
	Epoch    time.Time
	NewEpoch func(newestBase time.Time) time.Time
	// StageEpoch lets an ARG SOURCE_DATE_EPOCH=VALUE of a stage have its value there. Otherwise the epoch is
	// given as a build arg, which comes before.
	StageEpoch bool

	// Tracked lists the files that git tracks and whether each is executable, by the folder of a context
	// and the path in it. These files are sent with the modes that git records.
	Tracked map[string]map[string]bool
	// KeepModes sends all files with their own modes, .git folders included; PlainGit sends .git folders in one
	// form. See package gitdir.
	KeepModes, PlainGit bool
	// Leave lists files and folders to leave out of every context. The lockfile is one: it does not lock itself.
	Leave []string
	// Sums is the path of a file that remembers the sums of files in contexts; see package filesum. It may
	// be empty.
	Sums string
	// Vary lists what the second pass does differently.
	Vary []Variation
	// Clock is how far the second pass moves the clock of its steps, in whole seconds. It moves that of programs
	// that ask the C library, if [CanMoveClock].
	Clock time.Duration

	// Now is this machine's clock. nil stands for [time.Now].
	Now  func() time.Time
	Auth *configfile.ConfigFile // credentials, as docker stores them
	// Status receives the progress of the build, and is closed at its end. It may be nil.
	Status chan *client.SolveStatus
}

func (r *Request) now() time.Time {
	if r.Now == nil {
		return time.Now()
	}
	return r.Now()
}

// Remote reports whether only the builder can fetch the context or read the Dockerfile.
func (r *Request) Remote() bool {
	return r.Context.URL != "" || r.Dockerfile.URL != "" || r.Dockerfile.Inside != ""
}

// Directories returns the paths of the contexts that are folders, by the name of their mount.
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

// Resolution is the input of a build.
type Resolution struct {
	Lock  *lock.File           // Request.Lock and the pins that were added
	Used  map[lock.Source]bool // the sources of this build
	Epoch time.Time
	Args  []frontend.Arg // that the target uses
	// Settings are the compile environment of the RUN steps.
	Settings []frontend.Setting
}

// Result is a build as BuildKit exported it.
type Result struct {
	Resolution
	Root      ocispec.Descriptor // manifest or index
	Platforms []Platform
	// Started and Finished are the times of the whole build. All times are this machine's.
	Started, Finished time.Time
	// LastRunStarted and LastRunFinished are the latest start and the latest end of a RUN that was
	// executed. They are zero if all came from the cache.
	LastRunStarted, LastRunFinished time.Time

	// Refused are the requests of RUN steps that no record can hold, and that Request.Downloads therefore refused.
	Refused []*network.UnreplayableError
	Silent  []SilentLookup // by steps whose downloads could be recorded

	// NewestBase is the newest creation time of the base images of all stages. Only a second pass has it.
	NewestBase time.Time

	// Warnings are the frontend's.
	Warnings []*client.VertexWarning

	// Sent lists the paths that were sent, sorted, by the folder of the context.
	Sent map[string][]string
	// Repos lists the .git folders that were sent, by the folder of the context. The archive with a context has
	// the empty name.
	Repos map[string][]gitdir.Repo

	caches    int32 // of the pass
	leftovers []leftover

	downloadKeys map[string]stepKey
	sent         map[string]sentFile
	locals       map[string]*Layout
}

// Platform is the part of a Result that is for one platform.
type Platform struct {
	Platform                ocispec.Platform
	BaseLayers, BaseHistory int             // how many of the image's come from the base image
	BaseRef                 string          // the base image's reference, if there is one
	Steps                   []frontend.Step // the step that made each layer above the base
	Runs                    []frontend.Run  // every RUN, also of stages whose files are only mounted
}
