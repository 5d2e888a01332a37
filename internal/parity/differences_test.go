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
		What: "the image has another digest",
		Why:  "kedge writes every image in one canonical form, so that the same content has the same digest wherever it is built",
	},
	{
		ID: "times", Everywhere: true, Pattern: regexp.MustCompile(`^(times|created): `),
		What: "the times of files, and of the image, are no later than the epoch, which the lock holds",
		Why:  "the time of a build, or of a checkout, is not part of what is built",
	},
	{
		ID: "args label", Everywhere: true, Pattern: regexp.MustCompile(`^config Labels dev\.kedge\.args: none, kedge "[0-9a-f]{12}"$`),
		What: "the image has the label `dev.kedge.args`",
		Why:  "it tells images of one Dockerfile apart that differ in their build args",
	},
	{
		ID: "args tag", Everywhere: true, Pattern: regexp.MustCompile(`^args tags: false, kedge true$`),
		What: "for every name there is a second one, `NAME:[TAG-]args-HASH`",
		Why:  "as the label does, it tells images apart that differ in their build args; `kedge tag` prints it",
	},
	{
		ID: "lockfile", Everywhere: true, Pattern: regexp.MustCompile(`^left: no [^ ]*\.lock, kedge [^ ]*\.lock$`),
		What: "a build that succeeds writes `DOCKERFILE.lock`, where something is not locked yet",
		Why:  "it names by digest what goes into the image; with `--locked`, the default where `CI` is set, nothing is written",
	},
	{
		ID: "answer", Everywhere: true, Pattern: regexp.MustCompile(`^stdout: "", kedge "(lock|digest|index|tag)  `),
		What: "the lockfile, the digest and the names are printed on standard output",
		Why:  "docker says them in its progress only; with `-q`, or an archive on standard output, there is nothing else there",
	},
	{
		ID: "metadata", Everywhere: true, Pattern: regexp.MustCompile(`^metadata kedge\.\w+: none, `),
		What: "`--metadata-file` holds keys of kedge's, too, which begin with `kedge.`",
		Why:  "they say which args, lockfile, epoch and rules an image was made with",
	},
	{
		ID: "provenance", Everywhere: true, Pattern: regexp.MustCompile(`^(attestations: \[provenance/v1\], kedge \[\]|metadata buildx\.build\.provenance\S*: .*, kedge none)$`),
		What: "provenance is attached only if it is asked for",
		Why:  "it holds times and a random id, so that no two builds have the same",
	},
	{
		ID: "metadata of provenance", Everywhere: true,
		Pattern: regexp.MustCompile(`^metadata (containerimage\.config\.digest: none, kedge "DIGEST"|buildx\.build\.ref: .*, kedge none|containerimage\.descriptor: an object of (annotations, )?digest, mediaType, (platform, )?size, kedge an object of digest, mediaType, (platform, )?size)$`),
		What:    "`--metadata-file` has no `buildx.build.ref`, its descriptor no annotations, and `containerimage.config.digest` is there for every image for one platform",
		Why:     "a ref leads to buildx's history of builds; the annotations hold the time of the build; without provenance, an image for one platform is no index",
	},
	{
		ID: "usage", Everywhere: true, Pattern: regexp.MustCompile(`^exit: 1, kedge 2$`),
		What: "a command line that makes no sense ends with the exit code 2",
		Why:  "a script can tell it from a build that failed, which ends with 1; see README.md for 3 and 4",
	},
	{
		ID: "refused", Pattern: regexp.MustCompile(`^exit: 0, kedge [12]$`),
		What: "what would have the image depend on more than its sources, or would be overlooked in silence, is refused",
		Why:  "the message says what to use in its place",
	},
	{
		ID: "rules", Pattern: regexp.MustCompile(`^tree: /var/(log|cache)/\S*, kedge no /var/(log|cache)/\S*$`),
		What: "logs, caches and ids of the machine that RUN steps leave are not in new layers",
		Why:  "no two builds have the same, and no program needs them; docs/rules.md lists them, and `--normalize=none` keeps them",
	},
	{
		ID: "modes", Pattern: regexp.MustCompile(`^tree /a mode: -rw-------, kedge -rw-r--r--$`),
		What: "a file that git tracks has the mode that git records",
		Why:  "the umask of a checkout is not part of its content; `--context-modes=keep` takes the modes as they are",
	},
	{
		ID: "lockfile in the context", Pattern: regexp.MustCompile(`^tree: /all/Dockerfile.lock, kedge no /all/Dockerfile.lock$`),
		What: "the lockfile is not part of the context, also for `COPY . .`",
		Why:  "it is no part of what it locks",
	},
	{
		ID: "ci", Pattern: regexp.MustCompile(`^exit: 0, kedge 4$`),
		What: "where `CI` is set, what is not in the lockfile ends the build with the exit code 4",
		Why:  "a lock that CI writes locks nothing; commit the lockfile, or say `--locked=false`",
	},
	{
		ID: "leak", Pattern: regexp.MustCompile(`^exit: 0, kedge 1$`),
		What: "a secret of the build that is in a new layer in plain sight ends the build",
		Why:  "whoever has the image has the secret; `--secret-check=false` switches that off",
	},
	{
		ID: "forbidden", Pattern: regexp.MustCompile(`^exit: 0, kedge 4$`),
		What: "what the lock forbids, another target than the one that it declares among it, ends with the exit code 4",
		Why:  "one lockfile is about one target; `kedge lock --target` declares another",
	},
	{
		ID: "locked", Pattern: regexp.MustCompile(`^tree /moved content: `),
		What: "an image whose tag has moved since it was locked is built from as before",
		Why:  "that is what the lock is for; `kedge lock --refresh` takes what the tag names now",
	},
	{
		ID: "epoch", Pattern: regexp.MustCompile(`^tree /env content: `),
		What: "RUN steps see `SOURCE_DATE_EPOCH`, `FORCE_SOURCE_DATE`, `PYTHONHASHSEED` and `PERL_HASH_SEED`",
		Why:  "many programs take the first for the time of the build; with the others TeX does, and Python and Perl go through hash tables in one order",
	},
}
