package parity

import (
	"regexp"
	"slices"
)

// A Difference is an intended one between kedge build and docker build.
type Difference struct {
	ID string
	// Pattern matches the line of a comparison that shows it.
	Pattern *regexp.Regexp
	// Everywhere says that any case can show it. Otherwise a case must list it.
	Everywhere bool
	What, Why  string
}

// meant returns the ids of the Differences that explain the differences of a case.
func meant(c Case, found string) []string {
	var ids []string
	for _, d := range Differences {
		if (d.Everywhere || slices.Contains(c.Differs, d.ID)) && d.Pattern != nil && d.Pattern.MatchString(found) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// Differences are the intended differences, each with its reason.
var Differences = []Difference{
	{
		ID: "digest", Everywhere: true, Pattern: regexp.MustCompile(`^digest: `),
		What: "the digest of the image is another",
		Why:  "kedge writes every image in one canonical form, so the same content has the same digest wherever it is built",
	},
	{
		ID: "times", Everywhere: true, Pattern: regexp.MustCompile(`^(times|created): `),
		What: "no time of the image or its files is later than the epoch in the lock",
		Why:  "the time of a build or a checkout is not part of the content",
	},
	{
		ID: "args label", Everywhere: true, Pattern: regexp.MustCompile(`^config Labels dev\.kedge\.args: none, kedge "[0-9a-f]{12}"$`),
		What: "the image has the label `dev.kedge.args`",
		Why:  "it distinguishes images of one Dockerfile that have different build args",
	},
	{
		ID: "args tag", Everywhere: true, Pattern: regexp.MustCompile(`^args tags: false, kedge true$`),
		What: "every name of the image has a second one, `NAME:[TAG-]args-HASH`, in registries, archives and kedge's store, not in a Docker Engine",
		Why:  "like the label, it distinguishes images by their build args; `kedge tag` prints it",
	},
	{
		ID: "lockfile", Everywhere: true, Pattern: regexp.MustCompile(`^left: no [^ ]*\.lock, kedge [^ ]*\.lock$`),
		What: "a successful build adds sources without a pin to `DOCKERFILE.lock`",
		Why:  "the lockfile pins every source of the image by digest; with `--locked`, the default if `CI` is set, the build fails instead",
	},
	{
		ID: "answer", Everywhere: true, Pattern: regexp.MustCompile(`^stdout: "", kedge "(lock|digest|index|tag)  `),
		What: "the lockfile, the digest and the names are printed on standard output",
		Why:  "docker only shows them in its progress; with `-q`, or with an archive on standard output, kedge prints nothing else there",
	},
	{
		ID: "metadata", Everywhere: true, Pattern: regexp.MustCompile(`^metadata kedge\.\w+: none, `),
		What: "`--metadata-file` has additional keys, which begin with `kedge.`",
		Why:  "they record the args, lockfile, epoch and rules of the image",
	},
	{
		ID: "provenance", Everywhere: true, Pattern: regexp.MustCompile(`^(attestations: \[provenance/v1\], kedge \[\]|metadata buildx\.build\.provenance\S*: .*, kedge none)$`),
		What: "provenance is attached only on request",
		Why:  "it has times and a random id, so it differs between any two builds",
	},
	{
		ID: "metadata of provenance", Everywhere: true,
		Pattern: regexp.MustCompile(`^metadata (containerimage\.config\.digest: none, kedge "DIGEST"|buildx\.build\.ref: .*, kedge none|containerimage\.descriptor: an object of (annotations, )?digest, mediaType, (platform, )?size, kedge an object of digest, mediaType, (platform, )?size)$`),
		What:    "`--metadata-file` has no `buildx.build.ref`, no annotations in its descriptor, and `containerimage.config.digest` for every image for one platform",
		Why:     "a ref names a build in the history of a builder, which knows what it exported to kedge, under another digest, and neither the image nor the Dockerfile; the annotations have the time of the build; without provenance, an image for one platform is not an index",
	},
	{
		ID: "usage", Everywhere: true, Pattern: regexp.MustCompile(`^exit: 1, kedge 2$`),
		What: "an invalid command line gives the exit code 2",
		Why:  "scripts can distinguish it from a failed build, which gives 1; README.md explains 3 and 4",
	},
	{
		ID: "refused", Pattern: regexp.MustCompile(`^exit: 0, kedge [12]$`),
		What: "kedge refuses options that would make the image depend on more than its sources, or that it would ignore silently",
		Why:  "the message names an alternative",
	},
	{
		ID: "rules", Pattern: regexp.MustCompile(`^tree: /var/(log|cache)/\S*, kedge no /var/(log|cache)/\S*$`),
		What: "new layers have no logs, caches and machine ids of RUN steps",
		Why:  "they change with every build, and no program needs them; docs/rules.md lists them, and `--normalize=none` keeps them",
	},
	{
		ID: "modes", Pattern: regexp.MustCompile(`^tree /a mode: -rw-------, kedge -rw-r--r--$`),
		What: "files that git tracks have the modes that git records",
		Why:  "the umask of a checkout is not part of its content; `--context-modes=keep` keeps the modes of the files",
	},
	{
		ID: "context-git", Pattern: regexp.MustCompile(`^tree: /all/\.git/(hooks|info|branches|description)\S*, kedge no /all/\.git/\S*$`),
		What: "the `.git` of a checkout is in the context as a fresh clone has it: without samples of hooks, and with one line in each reflog",
		Why:  "two clones of a commit are one context; docs/rules.md has `context-git`, and `--normalize=-context-git` sends it as it is",
	},
	{
		ID:   "unreadable",
		What: "a file of the context that cannot be read ends the build",
		Why:  "docker puts an empty file into the image instead, without a word",
	},
	{
		ID: "early", Pattern: regexp.MustCompile(`^(images: \[out\.tar linux/amd64\], kedge \[\]|left: out\.tar, kedge no out\.tar)$`),
		What: "a build that could not write its `--iidfile` or `--metadata-file` fails before it begins",
		Why:  "docker builds and exports the image first, and then says that the folder does not exist",
	},
	{
		ID: "lockfile in the context", Pattern: regexp.MustCompile(`^tree: /all/Dockerfile.lock, kedge no /all/Dockerfile.lock$`),
		What: "the lockfile is not part of the context, even for `COPY . .`",
		Why:  "the lockfile does not lock itself",
	},
	{
		ID: "ci", Pattern: regexp.MustCompile(`^exit: 0, kedge 4$`),
		What: "if `CI` is set, a source without a pin fails the build with the exit code 4",
		Why:  "a lockfile that only exists in CI pins nothing; commit it, or pass `--locked=false`",
	},
	{
		ID: "leak", Pattern: regexp.MustCompile(`^exit: 0, kedge 1$`),
		What: "a build fails if a new layer has the value of one of its secrets",
		Why:  "everyone who has the image could read the secret; `--secret-check=false` disables the check",
	},
	{
		ID: "forbidden", Pattern: regexp.MustCompile(`^exit: 0, kedge 4$`),
		What: "what the lock forbids, for example to push or archive another target than it declares, gives the exit code 4",
		Why:  "a lockfile declares the target that ships; others can be built, loaded and written as files, and `kedge lock --target` declares another",
	},
	{
		ID: "locked", Pattern: regexp.MustCompile(`^tree /moved content: `),
		What: "a base image stays the same after its tag has moved",
		Why:  "the lock pins it; `kedge lock --refresh` moves the pin",
	},
	{
		ID: "epoch", Pattern: regexp.MustCompile(`^tree /env content: `),
		What: "RUN steps see `SOURCE_DATE_EPOCH`, `FORCE_SOURCE_DATE`, `PYTHONHASHSEED`, `PERL_HASH_SEED`, `CARGO_INCREMENTAL`, `CARGO_CACHE_RUSTC_INFO`, `GIT_AUTHOR_DATE` and `GIT_COMMITTER_DATE`",
		Why:  "many programs use the first as the time of the build; the others make TeX do so, fix the order of hash tables in Python and Perl, keep random names and orders out of the folder that Cargo builds in, and date the commits that git makes",
	},
}
