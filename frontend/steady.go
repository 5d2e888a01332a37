package frontend

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// steady are variables that make programs behave the same in every run.
var steady = []struct{ name, value string }{
	{"FORCE_SOURCE_DATE", "1"}, // without it, TeX ignores the epoch for \today
	// Otherwise every process orders its hash tables differently.
	{"PYTHONHASHSEED", "0"}, // https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED
	{"PERL_HASH_SEED", "0"}, // https://perldoc.perl.org/perlrun#PERL_HASH_SEED
	// Otherwise a build for debugging leaves folders with random names and the time in its target folder.
	{"CARGO_INCREMENTAL", "0"}, // https://doc.rust-lang.org/cargo/reference/environment-variables.html
	// Otherwise it has what cargo asked the compiler, in the order of random hashes.
	{"CARGO_CACHE_RUSTC_INFO", "0"},
}

// commitDates are the variables for the time of a commit. Options of git, such as --date, override them.
var commitDates = []string{"GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"} // https://git-scm.com/docs/git#_git_commits

// SteadyEnv returns env, the environment of a RUN, with SOURCE_DATE_EPOCH and other variables that make programs
// behave the same in every run. What env already has stays.
func SteadyEnv(env []string, epoch time.Time) []string {
	env = WithDefault(env, "SOURCE_DATE_EPOCH", strconv.FormatInt(epoch.Unix(), 10))
	for _, v := range steady {
		env = WithDefault(env, v.name, v.value)
	}
	if epoch.Unix() < 0 {
		return env
	}
	for _, name := range commitDates {
		env = WithDefault(env, name, fmt.Sprintf("@%d +0000", epoch.Unix()))
	}
	return env
}

// WithDefault returns env with a variable set, unless env already has it.
func WithDefault(env []string, name, value string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
		return env
	}
	return append(env, name+"="+value)
}
