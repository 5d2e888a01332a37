package kedge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/image"
	"github.com/kedge-build/kedge/rules"
)

// Options say what to build. Context is required; the zero value of everything else is a sensible default.
type Options struct {
	Context    string                     // a directory, a URL that the builder fetches, or - for standard input
	Dockerfile string                     // a file, an http(s) URL, or - for standard input; empty: Dockerfile in Context
	Lockfile   string                     // empty: lock.Path(Dockerfile), if the Dockerfile is a file of this machine
	Target     string                     // empty: the one that the lock declares, else the last stage
	Platforms  []string                   // empty: the builder's own
	Args       map[string]string          // build args
	Contexts   map[string]builder.Context // named contexts

	// Ships says that the image leaves this machine. Only the target that the lock declares may.
	Ships bool
	// DeclaresTarget says that a lock which declares no target declares Target. Otherwise it declares the last
	// stage.
	DeclaresTarget bool
	// StrictTarget is for Lock: whether the lock refuses to build another target. nil: as it is.
	StrictTarget *bool

	// LockDownloads and AllowDownloads are for Lock: what becomes of the downloads of RUN steps, and hosts whose
	// answers are let through and not locked.
	LockDownloads  LockDownloads
	AllowDownloads []string
	// DownloadsRepo is for Lock: the repository that shares the bodies of downloads; empty: none does. nil: as it is.
	DownloadsRepo *string

	Locked bool // fail rather than add anything to the lock
	// Offline fetches nothing at all: base images and what RUN steps download come from the cache, and a step
	// without locked downloads has no network. It needs Locked.
	Offline      bool
	NoCache      bool // take no step of the first build from the builder's cache
	Pull         bool // report locked images that have moved since; the build still uses the locked ones
	IgnorePolicy bool // build even if a DOCKERFILE.rego exists
	KeepModes    bool // send the context's files with their own modes, not with those that git records
	// NoSecretCheck skips scanning the image for secret values.
	NoSecretCheck bool
	// Lint says what becomes of what lint finds before the build.
	Lint LintMode

	builder.Settings
	GitLabels   GitLabels
	Attest      builder.Attest // attestations to attach to the image
	Epoch       Epoch
	Normalize   rules.Set // its version is ignored: the lock's counts
	Annotations []image.Annotation
	Vary        Vary // for Verify
}

// LintMode says what a build does with what lint finds. The zero value is LintOff.
type LintMode string

// The modes.
const (
	LintOff    LintMode = ""      // does not look
	LintWarn   LintMode = "warn"  // has the findings in its result
	LintRefuse LintMode = "error" // does not build if one is an error: it returns a *LintError
)

// Vary says how the second build of a verification differs from the first on purpose, so that a
// difference that would appear next month appears now.
type Vary struct {
	Builder []builder.Variation
	// Clock is how far its clock is moved; 0: not at all. If that is not possible on a platform, the second build
	// starts in another minute instead.
	Clock time.Duration
}

// defaultClock is how far "time" moves the clock: past a day, and within what apt and TLS accept.
const defaultClock = 36 * time.Hour

// words returns v in the words of [ParseVary].
func (v Vary) words() []string {
	var words []string
	if v.Clock != 0 {
		words = append(words, "time="+signedDuration(v.Clock))
	}
	for _, b := range v.Builder {
		words = append(words, string(b))
	}
	return words
}

// CannotVary returns why no builder can vary the respect that word names, or "" if one can.
func CannotVary(word string) (why string) {
	if word == "order" {
		return "BuildKit lists folders as the file system does"
	}
	return ""
}

// signedDuration writes a duration as [ParseVary] reads it.
func signedDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%+dd", d/day)
	}
	if d%time.Hour == 0 {
		return fmt.Sprintf("%+dh", d/time.Hour)
	}
	if d > 0 {
		return "+" + d.String()
	}
	return d.String()
}

// maxClock keeps a moved clock within the years that file systems and certificates know.
const maxClock = 10 * 366 * 24 * time.Hour

// parseClock reads a duration such as +36h or -400d.
func parseClock(s string) (time.Duration, error) {
	text := s
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil {
			text = fmt.Sprintf("%dh", n*24)
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d == 0 || d.Abs() > maxClock || d%time.Second != 0 {
		return 0, fmt.Errorf("time=%q is not a duration of at most ten years, such as +36h or +400d", s)
	}
	return d, nil
}

// ParseVary reads a comma-separated list: time, time=DURATION, hostname, cpus, umask, locale, order; or none. It
// returns words that no builder can vary apart; [CannotVary] says why.
func ParseVary(s string) (v Vary, cannot []string, err error) {
	known := []builder.Variation{builder.VaryHostname, builder.VaryCPUs, builder.VaryUmask, builder.VaryLocale}
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		by, timed := strings.CutPrefix(word, "time=")
		switch {
		case word == "none" && s == word:
		case word == "time":
			v.Clock = defaultClock
		case timed:
			if v.Clock, err = parseClock(by); err != nil {
				return Vary{}, nil, err
			}
		case slices.Contains(known, builder.Variation(word)):
			if !slices.Contains(v.Builder, builder.Variation(word)) {
				v.Builder = append(v.Builder, builder.Variation(word))
			}
		case CannotVary(word) != "":
			cannot = append(cannot, word)
		default:
			return Vary{}, nil, fmt.Errorf("%q is not time, hostname, cpus, umask, locale, order or, alone, none", word)
		}
	}
	return v, cannot, nil
}
